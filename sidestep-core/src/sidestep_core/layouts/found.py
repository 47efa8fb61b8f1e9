"""What is found about a song in another layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from sidestep_core.errors import DatasetError
from sidestep_core.sidecars import Sidecar, merge


@attrs.frozen(kw_only=True)
class Found:
    """What one file says about one song.

    Attributes:
        source: the file.
        sidecar: what it says.
        keyed: whether it is a sidecar already.
        doubts: what in it means nothing.
    """

    source: Path
    sidecar: Sidecar
    keyed: bool = False
    doubts: tuple[str, ...] = ()


def combine(found: Sequence[Found]) -> tuple[Sidecar, list[str]]:
    """Return what several files say together, the first one first, and where they differ."""
    together = Sidecar()
    said_by: dict[str, Path] = {}
    notes: list[str] = []
    for each in found:
        notes += [f"{each.source.name}: {doubt}" for doubt in each.doubts]
        for name, value in attrs.asdict(each.sidecar).items():
            known = getattr(together, name)
            if value and known and value != known and name not in ("other", "comments"):
                notes.append(
                    f"{name} in {each.source.name} differs from the one in {said_by[name].name}, which is used"
                )
            elif value and not known:
                said_by[name] = each.source
        together = _with_loose_lines(merge(together, each.sidecar, "fill_missing"), together, each.sidecar)
    return together, notes


def _with_loose_lines(merged: Sidecar, one: Sidecar, other: Sidecar) -> Sidecar:
    """Keep the lines of both that belong to no key: nothing is a duplicate of anything there."""
    lines = {name: _both(getattr(one, name), getattr(other, name)) for name in ("other", "comments")}
    return attrs.evolve(merged, **lines)


def _both(one: str, other: str) -> str:
    if not one:
        return other
    known = one.split("\n")
    return "\n".join([*known, *(line for line in other.split("\n") if line not in known)])


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        DatasetError: it is not UTF-8 text or cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
