"""Find, check and load plugins; one bad plugin never takes the others down."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

import attrs
import pluggy

from sidestep_core import hookspecs, specs
from sidestep_core.errors import SidestepError
from sidestep_core.registry import Registry

GROUP = "sidestep"
API_VERSION = 1
DISABLE_VARIABLE = "SIDESTEP_DISABLE_PLUGINS"
GIVEN = "(given)"
FIRST_PARTY = frozenset(
    {"sidestep-core", "sidestep-adapters", "sidestep-captioners", "sidestep-exporters", "sidestep-cli"}
)
SPEC_HOOKS: Mapping[str, type[specs.Spec]] = {
    "sidestep_adapters": specs.AdapterType,
    "sidestep_timestep_samplers": specs.TimestepSamplerType,
    "sidestep_lr_controllers": specs.LRControllerType,
    "sidestep_optimizers": specs.OptimizerType,
    "sidestep_providers": specs.ProviderType,
    "sidestep_exporters": specs.ExporterType,
    "sidestep_observers": specs.ObserverType,
    "sidestep_analyzers": specs.AnalyzerType,
    "sidestep_separators": specs.SeparatorType,
}
Status = Literal["ok", "blocked", "broken", "incompatible"]


@attrs.define
class PluginRecord:
    """What became of one discovered plugin.

    Attributes:
        name: name of its entry point.
        distribution: distribution that brought it, or "(given)".
        version: version of that distribution.
        status: ok, blocked, broken or incompatible.
        problems: one line each.
        traceback: of the last error, for `plugins show`.
        specs: what it offers.
    """

    name: str
    distribution: str
    version: str
    status: Status = "ok"
    problems: list[str] = attrs.field(factory=list)
    traceback: str = ""
    specs: list[specs.Spec] = attrs.field(factory=list)

    @property
    def first_party(self) -> bool:
        """Whether it comes with sidestep itself."""
        return self.distribution in FIRST_PARTY

    def fail(self, status: Status, problem: str, error: BaseException | None = None) -> None:
        """Note a problem that changes the status."""
        self.status = status
        self.problems.append(problem)
        if error is not None:
            self.traceback = "".join(traceback.format_exception(error))


class Plugins:
    """The plugins of one process or one test; there is no module-level instance.

    Args:
        disabled: plugin or distribution names not to import; "*" is every third-party one.
        entry_points: look for installed plugins.
        extra: further plugin modules or objects by name.
    """

    def __init__(
        self,
        *,
        disabled: Collection[str] = (),
        entry_points: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.records: list[PluginRecord] = []
        self.registries: dict[str, Registry[Any]] = {t.kind: Registry(t.kind) for t in SPEC_HOOKS.values()}
        self._disabled = {*disabled, *_disabled_by_environment()}
        if entry_points:
            for distribution, entry_point in _discover():
                self._load(entry_point.name, distribution.name, distribution.version, entry_point.load)
        for name, plugin in (extra or {}).items():
            self._load(name, GIVEN, "", functools.partial(_same, plugin))
        for record in sorted(self.records, key=lambda r: (not r.first_party, r.name)):
            self._collect(record)
        self._note_collisions()

    def find(self, kind: str, name: str) -> specs.Spec:
        """Return the component of that kind and name.

        Raises:
            UnknownName, AmbiguousName: with a line about plugins that did not load, since it may be in one of those.
        """
        try:
            return self.registries[kind][name]  # type: ignore[no-any-return]
        except LookupError as error:
            lost = [r.name for r in self.records if r.status in ("broken", "incompatible")]
            if not lost or not isinstance(error, SidestepError):
                raise
            hint = f"not loaded: {', '.join(lost)} ('sidestep plugins list' says why)"
            raise type(error)(f"{error}\n{hint}") from None

    def ask(self, hook: str) -> Iterator[tuple[PluginRecord, Any]]:
        """Call a hook of each working plugin alone, first-party last; one that raises is noted and skipped."""
        for record, answers in self._each(hook):
            yield from ((record, answer) for answer in answers)

    def secret(self, service: str) -> str | None:
        """Return the secret of a service from the first plugin that has it."""
        return next((answer for _, answer in self._each("sidestep_secret", service=service) if answer), None)

    def _each(self, hook: str, **arguments: Any) -> Iterator[tuple[PluginRecord, Any]]:
        for record in sorted(self.records, key=lambda r: r.first_party):
            plugin = self.manager.get_plugin(record.name)
            if plugin is None or record.status != "ok" or not hasattr(plugin, hook):
                continue
            others = [p for p in self.manager.get_plugins() if p is not plugin]
            try:
                result = self.manager.subset_hook_caller(hook, others)(**arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # foreign code may do anything, sys.exit() included
                record.fail("broken", f"{hook}: {_one_line(error)}", error)
                continue
            yield record, result

    def _blocked(self, record: PluginRecord) -> bool:
        by_name = {record.name, record.distribution} & self._disabled
        return bool(by_name) or ("*" in self._disabled and not record.first_party and record.distribution != GIVEN)

    def _load(self, name: str, distribution: str, version: str, load: Callable[[], Any]) -> None:
        record = PluginRecord(name, distribution, version)
        self.records.append(record)
        if self._blocked(record):
            record.status = "blocked"
            return
        if self.manager.has_plugin(name):
            other = next(r.distribution for r in self.records if r.name == name)
            record.fail("broken", f"a plugin of that name is already there, from {other}")
            return
        try:
            plugin = load()
            wanted = getattr(plugin, "sidestep_api", None)
            if wanted != API_VERSION:
                record.fail("incompatible", f"written for plugin API {wanted}, this is {API_VERSION}")
                return
            self.manager.register(plugin, name=name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may do anything at import, sys.exit() included
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            record.fail("broken", _one_line(error), error)
            return
        record.problems += _hook_problems(plugin)

    def _collect(self, record: PluginRecord) -> None:
        plugin = self.manager.get_plugin(record.name)
        if plugin is None or record.status != "ok":
            return
        others = [p for p in self.manager.get_plugins() if p is not plugin]
        for hook, spec_type in SPEC_HOOKS.items():
            try:
                found = [spec for batch in self.manager.subset_hook_caller(hook, others)() for spec in batch]
                if wrong := [spec for spec in found if not isinstance(spec, spec_type)]:
                    raise TypeError(f"returned {wrong[0]!r}, expected {spec_type.__name__}")
                for spec in found:
                    self.registries[spec_type.kind].add(record.name, spec, pin=record.first_party)
                    record.specs.append(spec)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # foreign code again: its other hooks stay usable
                record.fail("broken", f"{hook}: {_one_line(error)}", error)

    def _note_collisions(self) -> None:
        by_name = {r.name: r for r in self.records if r.specs}
        for registry in self.registries.values():
            for name, owners in registry.collisions().items():
                for owner in owners:
                    others = ", ".join(o for o in owners if o != owner)
                    by_name[owner].problems.append(f"{registry.kind} {name!r} is also offered by {others}")


def _same(plugin: Any) -> Any:
    return plugin


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _disabled_by_environment() -> set[str]:
    return {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}


def _discover() -> Iterator[tuple[importlib.metadata.Distribution, importlib.metadata.EntryPoint]]:
    found = [(e.dist, e) for e in importlib.metadata.entry_points(group=GROUP) if e.dist is not None]
    # first-party first, then by name: the order must not depend on the file system
    yield from sorted(found, key=lambda pair: (pair[0].name not in FIRST_PARTY, pair[0].name, pair[1].name))


def _hook_problems(plugin: Any) -> Iterator[str]:
    for name in dir(plugin):
        member = getattr(plugin, name)
        if not name.startswith(f"{hookspecs.PROJECT}_") or not callable(member):
            continue
        marked = hasattr(member, f"{hookspecs.PROJECT}_impl")
        if marked and not hasattr(hookspecs, name):
            yield f"unknown hook {name}: not called"
        elif not marked and hasattr(hookspecs, name):
            yield f"{name} is not marked with @hookimpl: not called"
