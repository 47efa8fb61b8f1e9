"""A value for each projection, printed with a row for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sidestep_core.formats.grid import kinds_of, place

from sidestep_cli.output import print_table


def print_by_layer(values: Mapping[str, float], shown: Callable[[float], str]) -> None:
    """Print values of modules, by original names, in a table of layers and projections.

    Args:
        values: by module.
        shown: how a value is written.
    """
    rows: dict[str, dict[str, str]] = {}
    for name, value in values.items():
        layer, kind = place(name)
        rows.setdefault(layer, {})[kind] = shown(value)
    kinds = kinds_of(values)
    headings = ("layer", *(kind or "value" for kind in kinds))
    cells = [(layer, *(row.get(kind, "") for kind in kinds)) for layer, row in rows.items()]
    print_table(headings, cells, right=headings)
