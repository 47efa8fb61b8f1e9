"""What changes between two texts, line by line."""

from __future__ import annotations

import difflib
from itertools import takewhile


def differing_lines(before: str, after: str) -> tuple[str, ...]:
    """Return the lines that go, behind `-`, and those that come, behind `+`, in the order of the texts."""
    old, new = before.splitlines(), after.splitlines()
    # difflib gives up on long texts of many equal lines, such as lyrics; what both begin and end with is no part of it
    head = _shared(old, new)
    old, new = old[head:], new[head:]
    tail = _shared(old[::-1], new[::-1])
    compared = difflib.unified_diff(old[: len(old) - tail], new[: len(new) - tail], n=0, lineterm="")
    return tuple(line for line in list(compared)[2:] if not line.startswith("@@"))


def _shared(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
