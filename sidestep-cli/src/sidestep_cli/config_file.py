"""`--config FILE`: a JSON object of flags, put in front of the command line, which wins over it.

Side-Step's configs and presets are such files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from sidestep_core.errors import ConfigError

MAX_BYTES = 1_000_000
# short names that such files use
SHORT: Mapping[str, str] = {
    "grad_accum": "gradient_accumulation",
    "scheduler": "scheduler_type",
    "optimizer": "optimizer_type",
    "early_stop": "early_stop_patience",
    "projections": "target_modules",
    "self_projections": "self_target_modules",
    "cross_projections": "cross_target_modules",
}


# what such a file says about itself
ABOUT = frozenset({"name", "description"})
_LIST_AS_TEXT = "_str"


@attrs.frozen
class Entry:
    """One key of the file.

    Attributes:
        key: as the file has it.
        flag: what the command line calls it.
        words: what would be typed.
    """

    key: str
    flag: str
    words: tuple[str, ...]


def read_entries(path: Path) -> list[Entry]:
    """Read a file of flags; keys may be written with dashes or underscores, null is as if it were not there.

    Raises:
        ConfigError: it cannot be read, is no JSON object, or holds an object inside.
    """
    table = read_table(path)
    return [_entry(path, key, value) for key, value in table.items() if value is not None and key not in ABOUT]


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConfigError: it cannot be read or is something else.
    """
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise ConfigError(f"'{path}' has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
        table = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"'{path}' must hold a JSON object of flags and values")
    return table


def words_of(entries: Sequence[Entry]) -> list[str]:
    """Return what would be typed for entries."""
    return [word for entry in entries for word in entry.words]


def left_over(entries: Sequence[Entry], args: Sequence[str], spellings: Collection[frozenset[str]]) -> list[Entry]:
    """Return the entries that the command takes and that the command line does not set itself.

    Args:
        entries: of the file.
        args: the command line.
        spellings: for each option of the command, everything it can be called.
    """
    typed = set(_flags(args))
    by_flag = {flag: names for names in spellings for flag in names}
    # false for a flag that is off unless it is given is what holds anyway
    sayable = [entry for entry in entries if all(word.partition("=")[0] in by_flag for word in entry.words)]
    return [entry for entry in sayable if not typed & by_flag.get(entry.flag, frozenset())]


def _entry(path: Path, key: str, value: Any) -> Entry:
    name = key.replace("-", "_")
    if name.endswith(_LIST_AS_TEXT) and isinstance(value, str):
        name, value = name.removesuffix(_LIST_AS_TEXT), value.split()
    flag = "--" + SHORT.get(name, name).replace("_", "-")
    if isinstance(value, bool):
        negated = flag.replace("--", "--no-", 1)
        return Entry(key, flag, (flag,) if value else (negated,))
    values = value if isinstance(value, list) else [value]
    if bad := [one for one in values if isinstance(one, dict | list | bool) or one is None]:
        raise ConfigError(f"'{path}': {key!r} holds {bad[0]!r}; give text, a number, or a list of these")
    return Entry(key, flag, tuple(f"{flag}={one}" for one in values))


def _flags(args: Sequence[str]) -> Iterator[str]:
    for arg in args:
        if arg == "--":
            return
        name = arg.partition("=")[0]
        if name.startswith("--"):
            yield name
        elif name.startswith("-"):
            yield name[:2]
