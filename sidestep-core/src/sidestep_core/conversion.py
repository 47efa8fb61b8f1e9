"""Configs from plain values and back, with every fault reported at once. The only user of cattrs."""

from __future__ import annotations

import difflib
import functools
import math
import operator
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import cattrs

from sidestep_core.errors import ConfigError
from sidestep_core.options import Option, options_of

T = TypeVar("T")
_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("at_least", operator.ge, "at least"),
    ("at_most", operator.le, "at most"),
    ("above", operator.gt, "above"),
    ("below", operator.lt, "below"),
)
_ACCEPTED: Mapping[type, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}


def _strict(kind: type) -> Any:
    def structure(value: Any, _: type) -> Any:
        # bool is a kind of int in Python; a setting of true is never 1, and "12" is never 12
        if isinstance(value, bool) is not (kind is bool) or not isinstance(value, _ACCEPTED[kind]):
            raise ValueError(f"expected {kind.__name__}, got {value!r}")
        made: Any = kind(value)
        if kind is float and not math.isfinite(made):
            raise ValueError(f"expected a finite number, got {value!r}")
        return made

    return structure


def _is_literal(hint: Any) -> bool:
    return bool(typing.get_origin(hint) == Literal)


def _one_of(value: Any, hint: Any) -> Any:
    choices = typing.get_args(hint)
    if value not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}; got {value!r}")
    return value


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple


def _several(value: Any, hint: Any, converter: cattrs.Converter) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):  # text would fall apart into letters
        raise ValueError(f"expected a list, got {value!r}")
    return tuple(converter.structure(item, typing.get_args(hint)[0]) for item in value)


def make_converter() -> cattrs.Converter:
    """Return a converter that refuses unknown keys and values of another type."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook_func(_is_literal, _one_of)
    converter.register_structure_hook_func(_is_tuple, functools.partial(_several, converter=converter))
    for kind in _ACCEPTED:
        converter.register_structure_hook(kind, _strict(kind))
    return converter


def structure(values: Mapping[str, Any], config_type: type[T], where: str) -> T:
    """Make a config from plain values.

    Args:
        values: settings by field name, as TOML or a command line gives them.
        config_type: class made with `@config`.
        where: name of the table, put in front of each fault.

    Raises:
        ConfigError: one line for each thing wrong.
    """
    options = list(options_of(config_type))
    # attrs' own validators stop at the first bound and run only once every type is right
    outside = [f"{where}.{line}" for option in options for line in _outside(option, values.get(option.name))]
    try:
        made = make_converter().structure(dict(values), config_type)
    except cattrs.ClassValidationError as group:
        faults = list(_faults(group, where, [option.name for option in options]))
        if outside:
            faults = outside + [fault for fault in faults if not fault.startswith(f"{where}:")]
        raise ConfigError("\n".join(faults)) from None
    return made


def unstructure(config: Any) -> dict[str, Any]:
    """Return a config's settings as plain values, without secrets and without those left at None."""
    hidden = {option.name for option in options_of(type(config)) if option.secret}
    values = make_converter().unstructure(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None and k not in hidden}


def _outside(option: Option, value: Any) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return
    for name, holds, words in _BOUNDS:
        bound = getattr(option, name)
        if bound is not None and not holds(value, bound):
            yield f"{option.name}: must be {words} {bound:g}, got {value:g}"


def _faults(group: cattrs.ClassValidationError, where: str, known: list[str]) -> Iterator[str]:
    by_field, others = group.group_exceptions()
    for error, note in by_field:
        yield f"{where}.{note.name}: {_reason(error)}"
    for error in others:
        if isinstance(error, cattrs.ForbiddenExtraKeysError):
            for name in sorted(error.extra_fields):
                near = difflib.get_close_matches(name, known, n=1)
                yield f"{where}.{name}: no such setting" + (f"; did you mean {near[0]!r}?" if near else "")
        else:
            yield f"{where}: {_reason(error)}"


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
