"""Formulas for the learning rate: a small language that is read and walked here and never given to Python to run.

All values are floats, so that nothing can grow beyond what a float holds, and formulas are short: whatever is
accepted is worked out at once.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_LENGTH = 1000
MAX_DEPTH = 50
SHOWN = 60

NAMES = ("step", "total_steps", "progress", "epoch", "total_epochs", "steps_per_epoch", "base_lr")
CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
TEMPLATES: Mapping[str, str] = {
    "cosine": "base_lr * 0.5 * (1 + cos(pi * progress))",
    "cosine_floor": "max(1e-6, base_lr * 0.5 * (1 + cos(pi * progress)))",
    "constant_then_cosine": "base_lr if progress < 0.3 else base_lr * 0.5 * (1 + cos(pi * (progress - 0.3) / 0.7))",
    "step_decay": "base_lr * 0.5 ** (epoch // 10)",
    "linear_floor": "max(1e-5, base_lr * (1 - progress))",
}


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


# what it is, and the fewest and most arguments it takes
FUNCTIONS: Mapping[str, tuple[Callable[..., float], int, int]] = {
    "cos": (math.cos, 1, 1),
    "sin": (math.sin, 1, 1),
    "exp": (math.exp, 1, 1),
    "log": (math.log, 1, 2),
    "sqrt": (math.sqrt, 1, 1),
    "pow": (math.pow, 2, 2),
    "min": (min, 2, MAX_LENGTH),
    "max": (max, 2, MAX_LENGTH),
    "abs": (abs, 1, 1),
    "clamp": (_clamp, 3, 3),
}
OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Formula:
    """A formula that was read and found to hold nothing but arithmetic on known names.

    Args:
        text: the formula, or the name of a template.

    Raises:
        ValueError: it is anything else; the message is one line.
    """

    def __init__(self, text: str) -> None:
        self.text = TEMPLATES.get(text.strip(), text.strip())
        try:
            self._root = _read(self.text)
            _check(self._root, 0)
        except ValueError as error:
            raise ValueError(f"scheduler formula {self.shown}: {error}") from None

    @property
    def shown(self) -> str:
        """The formula in quotes, shortened for a message."""
        return repr(self.text if len(self.text) <= SHOWN else self.text[: SHOWN - 3] + "...")

    def __call__(self, values: Mapping[str, float]) -> float:
        """Return its value.

        Args:
            values: a float for each of `NAMES`.

        Raises:
            ArithmeticError: a division by zero, or a value larger than floats go.
            ValueError: a function has no value there.
        """
        return _value(self._root, {**CONSTANTS, **values})


def _read(text: str) -> ast.expr:
    if not text:
        raise ValueError("it is empty")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it is longer than {MAX_LENGTH} characters")
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{error.msg} at character {error.offset}") from None
    except (MemoryError, RecursionError):
        raise ValueError("it nests too deeply") from None


def _check(node: ast.expr, depth: int) -> None:
    """Refuse what is not arithmetic on known names."""
    if depth > MAX_DEPTH:
        raise ValueError("it nests too deeply")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            _number(value)
        case ast.Name(id=name) if name not in NAMES and name not in CONSTANTS:
            raise ValueError(f"no name {name!r}; there is {', '.join([*NAMES, *CONSTANTS])}")
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            _, fewest, most = FUNCTIONS[name]
            if not fewest <= len(arguments) <= most:
                raise ValueError(f"{name}() does not take {len(arguments)} values")
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            raise ValueError(f"no function {name!r}; there is {', '.join(FUNCTIONS)}")
        case ast.Name() | ast.IfExp() | ast.BoolOp():
            pass
        case ast.BinOp(op=kind) | ast.UnaryOp(op=kind) if type(kind) in OPERATORS:
            pass
        case ast.Compare(ops=kinds) if all(type(kind) in OPERATORS for kind in kinds):
            pass
        case _:
            raise ValueError(f"{type(node).__name__.lower()} is not arithmetic")
    for child in _operands(node):
        _check(child, depth + 1)


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    # the name of a function is no value
    children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    return (child for child in children if isinstance(child, ast.expr))


def _value(node: ast.expr, names: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            return names[name]
        case ast.BinOp(left=left, op=kind, right=right):
            return float(OPERATORS[type(kind)](_value(left, names), _value(right, names)))
        case ast.UnaryOp(op=kind, operand=operand):
            return float(OPERATORS[type(kind)](_value(operand, names)))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name][0](*[_value(argument, names) for argument in arguments])
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, names) else other, names)
        case ast.BoolOp(op=kind, values=values):
            known = [_value(value, names) for value in values]
            return float(all(known) if isinstance(kind, ast.And) else any(known))
        case ast.Compare(left=left, ops=kinds, comparators=others):
            known = [_value(value, names) for value in (left, *others)]
            pairs = zip(kinds, known, known[1:], strict=False)
            return float(all(OPERATORS[type(kind)](a, b) for kind, a, b in pairs))
    raise AssertionError(f"{type(node).__name__} was let through")


def _number(value: int | float) -> None:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("it holds a number that is too large")
