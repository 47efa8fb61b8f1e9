"""Click options made from the settings of config classes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sidestep_core.options import Option

_TYPES: Mapping[type, click.ParamType[Any]] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.Path(path_type=Path),
}
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_NUMBER = re.compile(r"-\d")
_BOUNDS = (("at_least", "at least"), ("above", "above"), ("at_most", "at most"), ("below", "below"))


class SettingOption(click.Option):
    """The flag of one setting.

    Args:
        setting: what is set.
        table: preset table it belongs to (`train`, `lr-control.cosine`).
        title: heading of the table in the help.
        flags: long flags and perhaps a short one, none of them taken.
    """

    def __init__(self, setting: Option, *, table: str, title: str, flags: Sequence[str]) -> None:
        self.setting, self.table = setting, table
        self.title = "Advanced" if setting.advanced else setting.group or title
        name = re.sub(r"\W", "_", f"{table}__{setting.name}")
        declared = [_pair(flag) for flag in flags] if setting.type is bool else list(flags)
        # no default: what is not on the command line comes from the preset or from the config class
        super().__init__([*declared, name], type=_click_type(setting), multiple=setting.many, help=setting.help)

    @property
    def flag(self) -> str:
        """The flag that help and messages show."""
        return self.opts[0]

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return the flags and the help with default, bounds and further names."""
        short = [opt for opt in self.opts if not opt.startswith("--")]
        shown = ", ".join([*short, self.flag])
        if self.setting.type is bool:
            shown += f" / {self.secondary_opts[0]}"
        else:
            shown += f" {_metavar(self.setting)}"
        also = [opt for opt in self.opts[1:] if opt.startswith("--")]
        notes = "; ".join(_notes(self.setting, also))
        return shown, f"{self.setting.help}  [{notes}]" if notes else self.setting.help


def make_option(setting: Option, *, table: str, title: str, prefixes: Iterable[str], taken: set[str]) -> SettingOption:
    """Return the option of a setting and add its flags to those taken.

    The first free one of `--name`, `--prefix-name` ... becomes its flag; taken aliases and short flags are left out.
    """
    name = setting.name.replace("_", "-")
    candidates = [setting.flag, *(f"--{prefix}-{name}" for prefix in prefixes)]
    flag = next((c for c in candidates if not taken & _spellings(c, setting)), None)
    if flag is None:
        raise ValueError(f"{table}.{setting.name}: every flag is taken: {', '.join(candidates)}")
    others = [*setting.aliases, *([setting.short] if setting.short else [])]
    flags = [flag, *(other for other in others if not taken & _spellings(other, setting))]
    taken.update(*(_spellings(f, setting) for f in flags))
    return SettingOption(setting, table=table, title=title, flags=flags)


def repeat_flags(args: Sequence[str], flags: Collection[str]) -> Iterator[str]:
    """Yield arguments with `--x a b` written as `--x a --x b`, for flags that take several values."""
    current, filled = "", False
    for position, arg in enumerate(args):
        if arg == "--":
            yield from args[position:]
            return
        if arg.startswith("-") and not _NUMBER.match(arg):
            name, given, _ = arg.partition("=")
            current, filled = (name if name in flags else ""), bool(given)
        elif current and filled:
            yield current
        else:
            filled = True
        yield arg


def _spellings(flag: str, setting: Option) -> set[str]:
    return {flag, _negated(flag)} if setting.type is bool else {flag}


def _negated(flag: str) -> str:
    return flag.replace("--", "--no-", 1)


def _pair(flag: str) -> str:
    return f"{flag}/{_negated(flag)}" if flag.startswith("--") else flag


def _click_type(setting: Option) -> click.ParamType[Any] | None:
    if setting.type is bool:
        return None
    return click.Choice(setting.choices) if setting.choices else _TYPES[setting.type]


def _metavar(setting: Option) -> str:
    shown = "|".join(setting.choices) or _METAVARS[setting.type]
    return f"{shown} ..." if setting.many else shown


def _notes(setting: Option, also: Sequence[str]) -> Iterator[str]:
    if setting.required:
        yield "required"
    if setting.default not in (None, "", ()) and not setting.secret:
        yield f"default {_show(setting.default)}"
    if bounds := _bounds(setting):
        yield bounds
    if also:
        yield f"also {', '.join(also)}"


def _bounds(setting: Option) -> str:
    if setting.at_least is not None and setting.at_most is not None:
        return f"{setting.at_least:g} to {setting.at_most:g}"
    given = [(words, getattr(setting, name)) for name, words in _BOUNDS]
    return ", ".join(f"{words} {bound:g}" for words, bound in given if bound is not None)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
