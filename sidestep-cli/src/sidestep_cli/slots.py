"""A command whose options follow the chosen components and whose values come from flags, a preset and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sidestep_core.errors import ConfigError
from sidestep_core.options import options_of
from sidestep_core.presets import Preset, find_preset

from sidestep_cli.config_file import Entry, left_over, read_entries, words_of
from sidestep_cli.output import warn
from sidestep_cli.parts import Group, Resolved, Slot, find_parts, last, peek, resolve
from sidestep_cli.session import Session
from sidestep_cli.setting_options import repeat_flags

HELP_COLUMN = 30
_META = "sidestep.parts"


class SlotCommand(click.Command):
    """A command with settings groups and component slots; its function gets what they come to as `settings`.

    Args:
        groups: settings groups, in the order of the help.
        slots: component slots; their options follow the groups'.
    """

    def __init__(self, *args: Any, groups: Sequence[Group], slots: Sequence[Slot] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups, self.slots = groups, slots
        self.slot_options = [
            _ComponentOption(slot, flags) for slot in slots for flags in (slot.flags, slot.more) if flags
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look which components are chosen, then parse with their options."""
        plugins = ctx.ensure_object(Session).toolkit.plugins
        name = self._peek("preset", args)
        preset = find_preset(name, plugins) if name else None
        if preset is not None:
            self._check_tables(preset)
        tables = preset.tables if preset else self.saved_tables(ctx, args)
        file = self._peek("config", args)
        entries = read_entries(Path(file)) if file else []
        taken = {"--help", "-h"}.union(*(param.opts for param in [*self.params, *self.slot_options]))
        words = [*words_of(entries), *args]
        parts = list(find_parts(self.groups, self.slots, words, plugins=plugins, tables=tables, taken=taken))
        ctx.meta[_META] = parts
        many = {flag for part in parts for o in part.options if o.multiple for flag in o.opts}
        from_file = self._from_file(ctx, entries, args)
        return super().parse_args(ctx, [*from_file, *repeat_flags(args, many)])

    def saved_tables(self, ctx: click.Context, args: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return tables as a preset has them, for a command that takes its defaults from somewhere else."""
        return {}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own options, those of slots and settings, and --help."""
        own = super().get_params(ctx)
        made = [option for part in ctx.meta.get(_META, ()) for option in part.options]
        return [*own[:-1], *self.slot_options, *made, own[-1]]

    def resolved(self, ctx: click.Context) -> Resolved:
        """Return what a parsed command line comes to; raise `ConfigError` with every fault there is."""
        return resolve(ctx, ctx.meta[_META])

    def invoke(self, ctx: click.Context) -> Any:
        """Check all settings together, then call the function."""
        settings = self.resolved(ctx)
        own = {param.name for param in self.params}
        ctx.params = {name: value for name, value in ctx.params.items() if name in own} | {"settings": settings}
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under headings; advanced ones come last."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                sections.setdefault(getattr(param, "title", "Options"), []).append(row)
        advanced = sections.pop("Advanced", [])
        for title, rows in [*sections.items(), ("Advanced", advanced)]:
            if rows:
                with formatter.section(title):
                    # one width for all sections: the columns line up
                    formatter.write_dl([(flags.ljust(HELP_COLUMN), help_) for flags, help_ in rows], HELP_COLUMN)

    def _peek(self, name: str, args: Sequence[str]) -> str:
        """Return what is given for one of the command's own options, before anything is parsed."""
        return last(peek(args, (f"--{name}",))) if any(param.name == name for param in self.params) else ""

    def _from_file(self, ctx: click.Context, entries: Sequence[Entry], args: Sequence[str]) -> list[str]:
        """Return the words of a file's entries; those that no component has are named, the others' passed over."""
        spellings = [frozenset([*param.opts, *param.secondary_opts]) for param in self.get_params(ctx)]
        known = frozenset().union(*spellings) | set(self._component_flags(ctx))
        if unknown := [entry.key for entry in entries if entry.flag not in known]:
            warn(
                f"{', '.join(map(repr, unknown))} in --config is nothing that 'sidestep {self.name}' takes; passed over"
            )
        return words_of(left_over(entries, args, spellings))

    def _component_flags(self, ctx: click.Context) -> Iterator[str]:
        """Yield the flags of every component that could be chosen."""
        registries = ctx.ensure_object(Session).toolkit.plugins.registries
        specs = [spec for slot in self.slots for spec in registries[slot.kind].every()]
        yield from (
            flag for spec in specs if spec.config for setting in options_of(spec.config) for flag in setting.flags
        )

    def _check_tables(self, preset: Preset) -> None:
        known = [*(g.name for g in self.groups), *(s.name for s in self.slots)]
        if unknown := [table for table in preset.tables if table not in known]:
            raise ConfigError(f"preset {preset.name!r}: no table [{unknown[0]}]; there is {', '.join(known)}")


class _ComponentOption(click.Option):
    """The flag that chooses a slot's component, or adds one."""

    def __init__(self, slot: Slot, flags: tuple[str, ...]) -> None:
        self.slot, self.adds = slot, flags == slot.more
        self.title = "Components"
        name = slot.name.replace("-", "_") + ("_more" if self.adds else "_type")
        required = not self.adds and not slot.default and not slot.none
        help_ = slot.more_help if self.adds else slot.help
        super().__init__([*flags, name], multiple=self.adds, required=required, help=help_)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        registry = ctx.ensure_object(Session).toolkit.plugins.registries[self.slot.kind]
        short = [o for o in self.opts if not o.startswith("--")]
        also = [o for o in self.opts[1:] if o.startswith("--")]
        wanted = self.slot.supplies
        fitting = sorted({spec.name for spec in registry.every() if not wanted or wanted & spec.supplies})
        notes = [", ".join([*fitting, *self.slot.none]) or "none installed"]
        if not self.adds and self.slot.default:
            notes.append(f"default {self.slot.default}")
        elif self.adds and not self.slot.flags:
            notes.append(f"{self.slot.default} is always there")
        notes += ["may be repeated"] if self.adds else []
        notes += [f"also {', '.join(also)}"] if also else []
        return f"{', '.join([*short, self.opts[0]])} NAME", f"{self.help}  [{'; '.join(notes)}]"
