"""What several runs have apart: their settings, by dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidestep_core.runs import Run

# of each run its own, whatever it trains
_PLACES = ("run.output_dir", "run.run_name", "run.resume_from")


def flat_settings(run: Run) -> dict[str, Any]:
    """Return every setting of a run as `table.setting`, of components in a list as `table.component.setting`."""
    return dict(_flatten("", run.settings))


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, with the value in each (None where it has none)."""
    tables = [flat_settings(run) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table if name not in _PLACES)
    values = {name: [table.get(name) for table in tables] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), inner)
    elif _is_components(value):
        yield prefix, [component["type"] for component in value]
        for component in value:
            rest = {key: inner for key, inner in component.items() if key != "type"}
            yield from _flatten(f"{prefix}.{component['type']}", rest)
    else:
        yield prefix, value


def _is_components(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "type" in v for v in value)
