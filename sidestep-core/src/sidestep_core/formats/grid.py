"""Modules as a grid of layers and kinds of projections, for tables and pictures, without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KINDS = (
    *(f"{block}_attn.{letter}_proj" for block in ("self", "cross") for letter in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_SHORT = (("self_attn.", "self "), ("cross_attn.", "cross "), ("mlp.", ""), ("_proj", ""))


def place(name: str) -> tuple[str, str]:
    """Return the layer and the kind of a module, both as short words: `("3", "self q")`; others are a row alone."""
    match = _LAYER.fullmatch(name)
    return (match[1], short(match[2])) if match else (name, "")


def kinds_of(names: Iterable[str]) -> list[str]:
    """Return the kinds that some modules are of, in the order of the decoder."""
    there = {place(name)[1] for name in names}
    known = [short(kind) for kind in _KINDS]
    return [*(kind for kind in known if kind in there), *sorted(there - {*known})]


def short(kind: str) -> str:
    """Return a kind of projection in short: `self q` for `self_attn.q_proj`."""
    for long, word in _SHORT:
        kind = kind.replace(long, word)
    return kind
