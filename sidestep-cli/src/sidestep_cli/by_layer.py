"""A value for each projection, printed with a row for each layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sidestep_cli.output import print_table

_KINDS = (
    *(f"{block}_attn.{letter}_proj" for block in ("self", "cross") for letter in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_SHORT = (("self_attn.", "self "), ("cross_attn.", "cross "), ("mlp.", ""), ("_proj", ""))


def print_by_layer(values: Mapping[str, float], shown: Callable[[float], str]) -> None:
    """Print values of modules, by original names, in a table of layers and projections.

    Args:
        values: by module.
        shown: how a value is written.
    """
    rows: dict[str, dict[str, str]] = {}
    for name, value in values.items():
        match = _LAYER.fullmatch(name)
        layer, kind = match.groups() if match else (name, "")
        rows.setdefault(layer, {})[kind] = shown(value)
    there = {kind for row in rows.values() for kind in row}
    kinds = [*(kind for kind in _KINDS if kind in there), *sorted(there - {*_KINDS})]
    headings = ("layer", *(_short(kind) or "value" for kind in kinds))
    print_table(
        headings, [(layer, *(row.get(kind, "") for kind in kinds)) for layer, row in rows.items()], right=headings
    )


def _short(kind: str) -> str:
    for long, short in _SHORT:
        kind = kind.replace(long, short)
    return kind
