"""Adapters that a run keeps beside the last one: what each folder says of itself, and how a resume puts them back.

`best/` and `milestones/loss_X/` have the adapter's files and `kept.json`. Each checkpoint has a copy of the best one
so far: a run that goes back in time goes back to that one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.files import atomic_folder, copy_folder, is_temporary, locate_folder
from sidestep_core.runs import BEST, MILESTONES, OVERTAKEN

KEPT = "kept.json"


@attrs.frozen(kw_only=True)
class Best:
    """The best adapter so far: where it was met and the loss it was judged by."""

    step: int
    epoch: int
    loss: float
    tracked: str


@attrs.define(kw_only=True)
class Kept:
    """What a run has kept so far; part of every checkpoint.

    Attributes:
        best: the best so far, None before the first.
        measure: what its loss was measured with; losses of another measure cannot be compared.
        judged: step at which a new best was last looked for.
        milestones: step at which each was reached, by its folder's name.
    """

    best: Best | None = None
    measure: str = ""
    judged: int = 0
    milestones: dict[str, int] = attrs.field(factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return attrs.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Kept:
        """Return what `state_dict` described."""
        best = Best(**state["best"]) if state["best"] is not None else None
        return cls(**{**state, "best": best})


def put_back(run: Path, best: Path | None, milestones: Mapping[str, int]) -> Iterator[str]:
    """Make a run's folders those it had at a checkpoint; what is there besides is set aside.

    Args:
        run: the run folder.
        best: the checkpoint's copy of the best adapter, None if the run is to have none.
        milestones: step at which each was reached by then, by its folder's name.

    Yields:
        A line for each folder that was set aside.
    """
    ours = run / BEST
    there = locate_folder(ours)
    if there.is_dir() and (best is None or said_by(there) != said_by(best)):
        yield _set_aside(run, there, BEST)
    elif there != ours:
        there.rename(ours)
    if best is not None and not ours.is_dir():
        with atomic_folder(ours) as new:
            copy_folder(best, new)
    for folder in sorted((run / MILESTONES).glob("loss_*")):
        if said_by(folder).get("step") != milestones.get(folder.name):
            yield _set_aside(run, folder, folder.name)
    for path in (*run.glob(f".{BEST}.*"), *(run / MILESTONES).glob(".*")):
        if is_temporary(path):  # of a save that was interrupted
            shutil.rmtree(path)


def said_by(folder: Path | None) -> dict[str, Any]:
    """Return what the folder of a kept adapter says of it; nothing if there is none or it cannot be read."""
    try:
        said = json.loads((folder / KEPT).read_text(encoding="utf-8")) if folder is not None else {}
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _set_aside(run: Path, folder: Path, name: str) -> str:
    step = said_by(folder).get("step", 0)
    aside = run / OVERTAKEN / f"{name}_step_{step}"
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return f"the adapter that was kept at step {step} as {name} is in '{aside}' now"
