"""Presets: TOML files with a table for each slot of a run. Shipped by plugins, saved by users, or any path."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from sidestep_core.errors import ConfigError, UnknownName
from sidestep_core.files import write_atomic
from sidestep_core.requests import FIXED_TABLES
from sidestep_core.settings import config_folder

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from sidestep_core.plugins import Plugins
    from sidestep_core.requests import TrainRequest

MAX_BYTES = 1_000_000
# what belongs to a machine or to one run: it is shared with nobody
LOCAL = frozenset(
    {
        "model.checkpoint_dir",
        "model.device",
        "data.dataset_dir",
        "targets.fisher_map",
        "run.output_dir",
        "run.run_name",
        "run.resume_from",
        "preview.songs",
        "preprocess.audio_dir",
        "preprocess.dataset_json",
        "preprocess.tensor_output",
    }
)
_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices, on Windows
PRESETS_HOOK = "sidestep_presets"


@attrs.frozen(kw_only=True)
class Preset:
    """A named set of settings.

    Attributes:
        name: stem of its file.
        origin: "user", the plugin that ships it, or "file".
        description: its first line of explanation.
        tables: settings by slot; a component's table has its `type`.
    """

    name: str
    origin: str
    description: str
    tables: Mapping[str, Mapping[str, Any]]


def user_folder() -> Path:
    """Return the folder of the user's own presets, which need not exist."""
    return config_folder() / "presets"


def list_presets(plugins: Plugins) -> list[Preset]:
    """Return all presets by name; a user's preset hides a shipped one of the same name.

    Raises:
        ConfigError: one of the user's cannot be read. A plugin whose presets cannot be read loses them.
    """
    found = {preset.name: preset for preset in _shipped(plugins)}
    folder = user_folder()
    if folder.is_dir():
        found |= {path.stem: read_preset(path, "user") for path in sorted(folder.glob("*.toml"))}
    return [found[name] for name in sorted(found)]


def find_preset(name_or_path: str, plugins: Plugins) -> Preset:
    """Return a preset by name, or read it from a path (anything that ends in .toml).

    Raises:
        UnknownName: no preset has the name, or no file is there.
        ConfigError: the file cannot be used.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise UnknownName(f"no preset file '{path}'")
        return read_preset(path, "file")
    known = {preset.name: preset for preset in list_presets(plugins)}
    if name_or_path not in known:
        lost = "".join(f"\nnot loaded: {p}" for r in plugins.records for p in r.problems if p.startswith(PRESETS_HOOK))
        there = ", ".join(known) or "none"
        raise UnknownName(f"no preset {name_or_path!r}; there is {there} (or give a .toml file){lost}")
    return known[name_or_path]


def read_preset(source: Path | Traversable, origin: str) -> Preset:
    """Read one preset file.

    Raises:
        ConfigError: it is too large, no TOML, or holds something other than tables and a description.
    """
    try:
        data = source.read_bytes()
        if len(data) > MAX_BYTES:
            raise ConfigError(f"preset '{source}' has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
        tables = tomllib.loads(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"preset '{source}' cannot be read: {error}") from error
    description = tables.pop("description", "")
    if not isinstance(description, str):
        raise ConfigError(f"preset '{source}': description must be text")
    if loose := [name for name, table in tables.items() if not isinstance(table, dict)]:
        raise ConfigError(f"preset '{source}': {loose[0]!r} must stand in a table such as [train]")
    return Preset(name=Path(source.name).stem, origin=origin, description=description, tables=tables)


def shareable(tables: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return tables without what belongs to one machine or run, and the names of what was left out."""
    left = [f"{table}.{key}" for table, values in tables.items() for key in values if f"{table}.{key}" in LOCAL]
    kept = {
        table: {key: value for key, value in values.items() if f"{table}.{key}" not in LOCAL}
        for table, values in tables.items()
    }
    return {table: values for table, values in kept.items() if values or not tables[table]}, left


def preset_text(preset: Preset) -> str:
    """Return a preset as the TOML that `read_preset` reads."""
    import tomli_w

    described = {"description": preset.description} if preset.description else {}
    return tomli_w.dumps({**described, **preset.tables})


def save_preset(preset: Preset, *, overwrite: bool = False) -> Path:
    """Write one of the user's presets and return its file.

    Raises:
        ConfigError: the name cannot be a file's, or is taken and not to be overwritten.
    """
    if not _NAME.fullmatch(preset.name) or _RESERVED.fullmatch(preset.name):
        raise ConfigError(
            f"preset name {preset.name!r}: letters, digits and '_', '-', '.', '+' make a name, a letter or digit first"
        )
    path = user_folder() / f"{preset.name}.toml"
    if path.exists() and not overwrite:
        raise ConfigError(f"there is a preset {preset.name!r} of yours already; replace it with --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, preset_text(preset))
    return path


def delete_preset(name: str, plugins: Plugins) -> Path:
    """Remove one of the user's presets and return what its file was.

    Raises:
        UnknownName: no preset has the name.
        ConfigError: it is not the user's.
    """
    preset = find_preset(name, plugins)
    if preset.origin != "user":
        raise ConfigError(f"preset {name!r} comes with {preset.origin}; only your own can be deleted")
    path = user_folder() / f"{name}.toml"
    path.unlink()
    return path


def request_tables(request: TrainRequest) -> dict[str, dict[str, Any]]:
    """Return a run's settings as TOML or JSON tables: fixed groups, then components with their `type`."""
    from sidestep_core.conversion import unstructure

    tables = {name: unstructure(getattr(request, name)) for name in FIXED_TABLES}
    for slot in ("adapter", "timesteps", "optimizer"):
        choice = getattr(request, slot)
        tables[slot] = {"type": choice.name} | (unstructure(choice.config) if choice.config else {})
    for slot, choices in (("lr-control", request.controllers), ("observe", request.observers)):
        if choices:
            tables[slot] = {c.name: unstructure(c.config) if c.config else {} for c in choices}
    return tables


def _shipped(plugins: Plugins) -> Iterable[Preset]:
    for record, sources in plugins.ask(PRESETS_HOOK):
        try:
            found = [read_preset(source, record.name) for source in sources]
        except Exception as error:  # what a plugin ships may be anything: its presets are lost, the others stay
            record.fail("broken", f"{PRESETS_HOOK}: {error}", error)
            continue
        yield from found
