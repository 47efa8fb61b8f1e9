"""A command whose options follow the chosen components and whose values come from flags, a preset and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from sidestep_core.errors import ConfigError
from sidestep_core.presets import Preset, find_preset

from sidestep_cli.parts import Group, Slot, find_parts, last, peek, resolve
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
        name = last(peek(args, ("--preset",))) if self._has_preset() else ""
        preset = find_preset(name, plugins) if name else None
        if preset is not None:
            self._check_tables(preset)
        tables = preset.tables if preset else {}
        taken = {"--help", "-h"}.union(*(param.opts for param in [*self.params, *self.slot_options]))
        parts = list(find_parts(self.groups, self.slots, args, plugins=plugins, tables=tables, taken=taken))
        ctx.meta[_META] = parts
        many = {flag for part in parts for o in part.options if o.multiple for flag in o.opts}
        return super().parse_args(ctx, list(repeat_flags(args, many)))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own options, those of slots and settings, and --help."""
        own = super().get_params(ctx)
        made = [option for part in ctx.meta.get(_META, ()) for option in part.options]
        return [*own[:-1], *self.slot_options, *made, own[-1]]

    def invoke(self, ctx: click.Context) -> Any:
        """Check all settings together, then call the function."""
        settings = resolve(ctx, ctx.meta[_META])
        own = {param.name for param in self.params}
        ctx.params = {name: value for name, value in ctx.params.items() if name in own} | {"settings": settings}
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under headings; advanced ones come last."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if (row := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "title", "Options"), []).append(row)
        advanced = sections.pop("Advanced", [])
        for title, rows in [*sections.items(), ("Advanced", advanced)]:
            if rows:
                with formatter.section(title):
                    # one width for all sections: the columns line up
                    formatter.write_dl([(flags.ljust(HELP_COLUMN), help_) for flags, help_ in rows], HELP_COLUMN)

    def _has_preset(self) -> bool:
        return any(param.name == "preset" for param in self.params)

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
        super().__init__([*flags, name], multiple=self.adds, help=slot.more_help if self.adds else slot.help)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        registry = ctx.ensure_object(Session).toolkit.plugins.registries[self.slot.kind]
        short = [o for o in self.opts if not o.startswith("--")]
        also = [o for o in self.opts[1:] if o.startswith("--")]
        notes = [", ".join(registry) or "none installed"]
        if not self.adds:
            notes.append(f"default {self.slot.default}")
        elif not self.slot.flags:
            notes.append(f"{self.slot.default} is always there")
        notes += ["may be repeated"] if self.adds else []
        notes += [f"also {', '.join(also)}"] if also else []
        return f"{', '.join([*short, self.opts[0]])} NAME", f"{self.help}  [{'; '.join(notes)}]"
