"""What a command line chooses and sets: groups of settings, slots for components, and their resolved values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import click
from click.core import ParameterSource
from sidestep_core.conversion import structure, unstructure
from sidestep_core.errors import ConfigError
from sidestep_core.options import Option, options_of
from sidestep_core.plugins import Plugins
from sidestep_core.requests import Choice

from sidestep_cli.setting_options import SettingOption, make_option


@attrs.frozen(kw_only=True)
class Group:
    """Settings that a command always has, or has once a flag unlocks them.

    Attributes:
        name: table in presets.
        title: heading in the help.
        config: class of its settings.
        unlocked_by: flags of which one must be given; such a group brings neither aliases nor short flags.
        prefix: word in front of every flag (`--preview-seconds`), where the flags alone would say too little.
    """

    name: str
    title: str
    config: type
    unlocked_by: tuple[str, ...] = ()
    prefix: str = ""

    def settings(self) -> Iterator[Option]:
        """Yield its settings with the flags they have in this group."""
        for setting in options_of(self.config):
            if self.unlocked_by:
                setting = attrs.evolve(setting, aliases=(), short=None)
            if self.prefix:
                setting = attrs.evolve(setting, flag=f"--{self.prefix}-{setting.flag.removeprefix('--')}")
            yield setting


@attrs.frozen(kw_only=True)
class Slot:
    """A place for a component.

    Attributes:
        name: table in presets; `[name] type = ...`, or `[name.component]` where it takes several.
        title: heading in the help.
        kind: kind of component.
        default: component it has when nothing is said, "" where one must be named; a slot without `flags` always has
            it.
        flags: flags that choose its (first) component.
        more: flags that add further ones; such a slot takes several.
        implied: setting flags that choose their component by themselves, as older command lines use them.
        none: words that choose no component; such a slot may stay empty.
        supplies: the help lists only components that supply one of these, or all where it is empty.
        help: what is chosen, as a sentence.
        more_help: what is added, as a sentence.
    """

    name: str
    title: str
    kind: str
    default: str
    flags: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    implied: Mapping[str, str] = attrs.field(factory=dict)
    none: tuple[str, ...] = ()
    supplies: frozenset[str] = frozenset()
    help: str = ""
    more_help: str = ""


@attrs.frozen(kw_only=True)
class Resolved:
    """What a command line comes to.

    Attributes:
        groups: a config for each group.
        slots: the components of each slot with their configs.
        given: what was said, on the command line or by a preset, as tables of plain values by `Part.table`.
    """

    groups: Mapping[str, Any]
    slots: Mapping[str, tuple[Choice, ...]]
    given: Mapping[str, Mapping[str, Any]]

    def one(self, slot: str) -> Choice:
        """Return the component of a slot that takes one."""
        return self.slots[slot][0]


@attrs.frozen(kw_only=True)
class Part:
    """One config to fill: a group's or a component's.

    Attributes:
        table: preset table of its settings.
        title: heading in the help.
        config: class of its settings, None where there is nothing to set.
        preset: settings that a preset gives.
        options: flags made for its settings.
        slot: slot of the component; "" for a group.
        component: name of the component; "" for a group.
    """

    table: str
    title: str
    config: type | None
    preset: Mapping[str, Any]
    options: tuple[SettingOption, ...] = ()
    slot: str = ""
    component: str = ""


def find_parts(
    groups: Sequence[Group],
    slots: Sequence[Slot],
    args: Sequence[str],
    *,
    plugins: Plugins,
    tables: Mapping[str, Mapping[str, Any]],
    taken: set[str],
) -> Iterator[Part]:
    """Yield the configs that a command line has to fill, with their options; unlocked groups come last.

    Args:
        groups: settings groups of the command.
        slots: component slots of the command.
        args: the command line.
        plugins: where components are looked up.
        tables: a preset's.
        taken: flags that are in use; those of the parts are added.

    Raises:
        UnknownName, AmbiguousName: a component is not there.
    """
    for group in groups:
        if not group.unlocked_by:
            yield _with_options(_group_part(group, tables), group.settings(), (group.name,), taken)
    for slot in slots:
        for part in _slot_parts(slot, args, plugins, tables.get(slot.name, {})):
            settings = options_of(part.config) if part.config else ()
            yield _with_options(part, settings, _prefixes(part, slot), taken)
    for group in groups:
        if set(group.unlocked_by) & set(args):
            yield _with_options(_group_part(group, tables), group.settings(), (group.name,), taken)


def peek(args: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the values given for a flag, without knowing the other flags."""
    found = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            break
        name, equals, value = arg.partition("=")
        if name in flags:
            found.append(value if equals else next(rest, ""))
        elif not arg.startswith("--") and arg[:2] in flags:
            found.append(arg[2:])
    return [value for value in found if value]


def last(values: Sequence[str]) -> str:
    """Return the last value, which is the one that holds; "" without any."""
    return values[-1] if values else ""


def without(args: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the arguments less a flag and its value."""
    kept: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            return [*kept, arg, *rest]
        name, equals, _ = arg.partition("=")
        if name in flags:
            if not equals:
                next(rest, "")
        elif arg.startswith("--") or arg[:2] not in flags:
            kept.append(arg)
    return kept


def _group_part(group: Group, tables: Mapping[str, Mapping[str, Any]]) -> Part:
    return Part(table=group.name, title=group.title, config=group.config, preset=tables.get(group.name, {}))


def _slot_parts(slot: Slot, args: Sequence[str], plugins: Plugins, table: Mapping[str, Any]) -> Iterator[Part]:
    """Yield a part for each component chosen for a slot: by flag, else by the preset, else by default."""
    saved = dict(table) if slot.more else {table.get("type", slot.default): table}
    if loose := [name for name, settings in saved.items() if not isinstance(settings, Mapping)]:
        raise ConfigError(f"{slot.name}.{loose[0]}: must be a table such as [{slot.name}.{loose[0]}]")
    implied = [name for flag, name in slot.implied.items() if peek(args, (flag,))]
    if slot.flags:
        first, *others = list(saved) or [slot.default]
        names = [last(peek(args, slot.flags)) or (first if slot.more else last([first, *implied])), *others]
    else:
        names = [slot.default, *saved]
    for name in filter(None, dict.fromkeys([*names, *peek(args, slot.more), *(implied if slot.more else ())])):
        if name in slot.none:
            continue
        spec = plugins.find(slot.kind, name)
        preset = {key: value for key, value in saved.get(name, {}).items() if key != "type"}
        yield Part(
            table=f"{slot.name}.{name}" if slot.more else slot.name,
            title=f"{slot.title}: {name}",
            config=spec.config,
            preset=preset,
            slot=slot.name,
            component=name,
        )


def _prefixes(part: Part, slot: Slot) -> tuple[str, ...]:
    component = part.component.rpartition(":")[2].replace("_", "-")
    return (component, f"{slot.name}-{component}") if slot.more else (slot.name, f"{slot.name}-{component}")


def _with_options(part: Part, settings: Iterable[Option], prefixes: tuple[str, ...], taken: set[str]) -> Part:
    made = [make_option(s, table=part.table, title=part.title, prefixes=prefixes, taken=taken) for s in settings]
    return attrs.evolve(part, options=tuple(made))


def resolve(ctx: click.Context, parts: Sequence[Part]) -> Resolved:
    """Put the command line over the preset over the defaults; raise `ConfigError` with every fault there is."""
    groups: dict[str, Any] = {}
    slots: dict[str, tuple[Choice, ...]] = {}
    said: dict[str, Mapping[str, Any]] = {}
    faults: list[str] = []
    for part in parts:
        given = [o for o in part.options if o.name and ctx.get_parameter_source(o.name) is ParameterSource.COMMANDLINE]
        values = {**part.preset, **{o.setting.name: ctx.params[o.name or ""] for o in given}}
        try:
            config = _configure(part, values)
        except ConfigError as error:
            # what was typed is named as it was typed
            typed = {f"{part.table}.{o.setting.name}": o.flag for o in given}
            faults += [_rename(line, typed) for line in str(error).splitlines()]
            continue
        if part.slot:
            slots[part.slot] = (*slots.get(part.slot, ()), Choice(name=part.component, config=config))
        else:
            groups[part.table] = config
        said[part.table] = {k: v for k, v in unstructure(config).items() if k in values} if values else {}
    if faults:
        raise ConfigError("\n".join(faults))
    return Resolved(groups=groups, slots=slots, given=said)


def _configure(part: Part, values: Mapping[str, Any]) -> Any:
    if part.config is not None:
        return structure(values, part.config, part.table)
    if values:
        raise ConfigError(f"{part.table}.{next(iter(values))}: {part.component} has no settings")
    return None


def _rename(line: str, typed: Mapping[str, str]) -> str:
    path, colon, rest = line.partition(": ")
    return f"{typed.get(path, path)}{colon}{rest}"
