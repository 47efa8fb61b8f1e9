"""One declaration per setting: `option()` fields and what can be derived from them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, dataclass_transform

import attrs

_KEY = "sidestep"
_SHOWABLE = (bool, int, float, str, Path)
T = TypeVar("T")


def option(
    *,
    default: Any = attrs.NOTHING,
    help: str,
    flag: str | None = None,
    aliases: tuple[str, ...] = (),
    short: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    group: str = "",
    advanced: bool = False,
    secret: bool = False,
) -> Any:
    """Declare one setting of a config class.

    Args:
        default: the value when nothing is said; leave it out for a required setting.
        help: a sentence that says what the setting does.
        flag: the command-line flag where it differs from the field name (`--cfg-ratio`).
        aliases: further flags that mean the same (`--learning-rate` beside `--lr`).
        short: a one-letter flag such as `-r`.
        at_least: smallest allowed value.
        at_most: largest allowed value.
        above: bound that the value must exceed.
        below: bound that the value must stay under.
        group: heading under which help and forms show it.
        advanced: left out of the wizard's basic questions.
        secret: never written to presets, runs, logs or tracebacks.

    Returns:
        A field for a class decorated with `config`.
    """
    checks = [
        make(bound)
        for make, bound in (
            (attrs.validators.ge, at_least),
            (attrs.validators.le, at_most),
            (attrs.validators.gt, above),
            (attrs.validators.lt, below),
        )
        if bound is not None
    ]
    validator = attrs.validators.optional(checks) if default is None and checks else checks or None
    metadata = dict(
        help=help,
        flag=flag,
        aliases=aliases,
        short=short,
        at_least=at_least,
        at_most=at_most,
        above=above,
        below=below,
        group=group,
        advanced=advanced,
        secret=secret,
    )
    return attrs.field(default=default, validator=validator, repr=not secret, metadata={_KEY: metadata})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def config(cls: type[T]) -> type[T]:
    """Make a class of `option()` fields a config: immutable, keyword-only, checked when made.

    Raises:
        TypeError: a field has a type that no interface can show.
    """
    made = attrs.frozen(cls, kw_only=True)
    for _ in options_of(made):
        pass
    return made


@attrs.frozen(kw_only=True)
class Option:
    """A setting as the command line, the wizard, a form and the documentation see it."""

    name: str
    type: type
    help: str
    default: Any
    required: bool
    many: bool = False
    nullable: bool = False
    choices: tuple[str, ...] = ()
    flag: str = ""
    aliases: tuple[str, ...] = ()
    short: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    group: str = ""
    advanced: bool = False
    secret: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """All long flags, the preferred one first."""
        return (self.flag, *self.aliases)


def options_of(config_type: type) -> Iterator[Option]:
    """Yield the options of a config class in declaration order."""
    hints = typing.get_type_hints(config_type)
    for field in attrs.fields(config_type):
        declared = field.metadata.get(_KEY)
        if declared is None:
            raise TypeError(f"{config_type.__name__}.{field.name} is not declared with option()")
        required = field.default is attrs.NOTHING
        yield Option(
            name=field.name,
            default=None if required else field.default,
            required=required,
            **_read_type(config_type, field.name, hints[field.name]),
            **{**declared, "flag": declared["flag"] or "--" + field.name.replace("_", "-")},
        )


def _read_type(config_type: type, name: str, hint: Any) -> dict[str, Any]:
    where = f"{config_type.__name__}.{name}"
    nullable = many = False
    if typing.get_origin(hint) in (Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(rest) != 1:
            raise TypeError(f"{where}: unions other than X | None are not supported")
        nullable, hint = True, rest[0]
    if typing.get_origin(hint) is tuple:
        if typing.get_args(hint)[1:] != (...,):
            raise TypeError(f"{where}: a tuple must be of the form tuple[X, ...]")
        many, hint = True, typing.get_args(hint)[0]
    choices: tuple[str, ...] = ()
    if typing.get_origin(hint) is Literal:
        choices, hint = typing.get_args(hint), str
    if hint not in _SHOWABLE:
        raise TypeError(f"{where}: {hint!r} cannot be shown as an option")
    return dict(type=hint, many=many, nullable=nullable, choices=choices)
