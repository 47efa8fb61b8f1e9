"""Reading progress files, ours and Side-Step's: the lines that count. docs/guide/progress.md says what they hold."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

Line = dict[str, Any]
CHUNK = 1000


def read_progress(path: Path) -> list[Line]:
    """Return the lines of a progress file, without those that a resume overtook; empty if there is none.

    Lines that a crash cut off or damaged are left out. A resume is a line of kind `start`; Side-Step writes none, and
    there a step that goes back marks it.
    """
    kept: list[Line] = []
    with _uncollected():
        for line in _parse(path):
            step = line["step"]
            if kept and step < kept[-1]["step"]:
                # a start says what was done before it, any other line what was done again
                last = step if line.get("kind") == "start" else step - 1
                while kept and kept[-1]["step"] > last:
                    kept.pop()
            kept.append(line)
    return kept


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    """Return the lines of one kind."""
    return [line for line in lines if line.get("kind") == kind]


def seconds_of(lines: list[Line]) -> float | None:
    """Return how long the work took that the lines tell of, without the time between a stop and a resume."""
    times: list[tuple[float, Any]] = [(line["ts"], line.get("kind")) for line in lines if is_number(line.get("ts"))]
    if not times:
        return None
    return sum(max(0.0, after - before) for (before, _), (after, kind) in pairwise(times) if kind != "start")


def number(line: Mapping[str, Any], key: str) -> float | None:
    """Return a line's number of that name; None where it has none."""
    value: object = line.get(key)
    return value if is_number(value) else None


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is a number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through what is just being read: a quarter of the time, for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parse(path: Path) -> Iterator[Line]:
    if not path.is_file():
        return
    # by bytes: text may hold characters that end a line for str and not for JSON
    texts = path.read_bytes().splitlines()
    for first in range(0, len(texts), CHUNK):
        for line in _parse_chunk(texts[first : first + CHUNK]):
            if isinstance(line, dict) and type(line.get("step")) is int:
                yield line


def _parse_chunk(texts: list[bytes]) -> list[Any]:
    """Parse lines in one call, which takes two thirds of the time, or one by one where some are damaged."""
    try:
        lines = json.loads(b"[" + b",".join(texts) + b"]")
    except (ValueError, RecursionError):
        lines = []
    if len(lines) == len(texts):
        return list(lines)
    return [line for text in texts if (line := _parse_line(text)) is not None]


def _parse_line(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
