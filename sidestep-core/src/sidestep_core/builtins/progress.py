"""The observer that writes `progress.jsonl` in the run folder: one JSON object a line, appended as things happen.

docs/guide/progress.md says what each line holds; `sidestep_core.progress` reads them.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any, TextIO

from sidestep_core.errors import LoadError
from sidestep_core.events import (
    BestSaved,
    CheckpointSaved,
    EpochDone,
    Event,
    MilestoneSaved,
    Notice,
    PreviewMade,
    RunFinished,
    RunStarted,
    StepsDone,
    StepSkipped,
    Validated,
)
from sidestep_core.runs import PROGRESS
from sidestep_core.specs import BuildContext

Fields = dict[str, Any]
# digits of losses by timestep, of which there are many: more of them would only make the file long
DIGITS = 6


class ProgressFile:
    """Appends a run's events to its progress file."""

    def __init__(self, config: None, context: BuildContext) -> None:
        """Take the run folder; the file is opened when the run starts."""
        if context.run is None:
            raise LoadError("observer 'progress' needs the folder of a run")
        self._path: Path = context.run / PROGRESS
        self._file: TextIO | None = None
        self._steps_per_epoch = 0
        self._warning = ""

    def observe(self, event: Event) -> None:
        """Write the event, if it belongs into the file."""
        if isinstance(event, Notice) and event.warning:
            self._warning = event.message
        if isinstance(event, RunStarted):
            self._steps_per_epoch = event.steps_per_epoch
        if line := self._line(event):
            self._write({"ts": round(time.time(), 3), **line})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _line(self, event: Event) -> Fields | None:
        match event:
            case StepsDone():
                return _step(event, self._steps_per_epoch)
            case RunFinished(reason="failed"):
                return {"kind": "fail", "step": event.step, "msg": self._warning}
            case RunStarted() | EpochDone() | StepSkipped() | RunFinished():
                return _course(event)
            case CheckpointSaved() | Validated() | BestSaved() | MilestoneSaved() | PreviewMade():
                return {**_result(event), "step": event.step, "epoch": event.epoch}
        return None

    def _write(self, line: Fields) -> None:
        if self._file is None:
            self._file = _open_for_lines(self._path)
        # a reader follows the file while it grows: every line is handed on whole
        self._file.write(json.dumps({k: _finite(v) for k, v in line.items()}, ensure_ascii=False) + "\n")
        self._file.flush()


def _step(event: StepsDone, steps_per_epoch: int) -> Fields:
    line = {
        "kind": "step",
        **event.extra,
        "step": event.step,
        "epoch": event.epoch,
        "max_epochs": event.epochs,
        "loss": event.loss,
        "lr": event.learning_rate,
        "steps_per_epoch": steps_per_epoch,
        "smoothed": event.smoothed,
        "grad_norm": event.grad_norm,
        "steps_per_second": event.steps_per_second,
        "memory": event.memory,
    }
    if event.bands:
        line |= {"bands": _rounded(event.bands), "samples": list(event.samples)}
    return line


def _course(event: RunStarted | EpochDone | StepSkipped | RunFinished) -> Fields:
    match event:
        case RunStarted():
            return {
                "kind": "start",
                "step": event.step,
                "total_steps": event.total_steps,
                "max_epochs": event.epochs,
                "steps_per_epoch": event.steps_per_epoch,
                "songs": event.songs,
                "trainable": event.trainable,
                "processes": event.processes,
            }
        case EpochDone():
            return {
                "kind": "epoch",
                "step": event.step,
                "epoch": event.epoch,
                "max_epochs": event.epochs,
                "loss": event.loss,
                "epoch_time": event.seconds,
            }
        case StepSkipped():
            return {"kind": "skip", "step": event.step, "songs": list(event.songs)}
        case RunFinished():
            return {
                "kind": "stopped" if event.reason == "stopped" else "complete",
                "step": event.step,
                "loss": event.loss,
                "reason": event.reason,
                "adapter": str(event.adapter) if event.adapter else None,
                "seconds": event.seconds,
            }


def _result(event: CheckpointSaved | Validated | BestSaved | MilestoneSaved | PreviewMade) -> Fields:
    match event:
        case CheckpointSaved():
            return {"kind": "checkpoint", "path": str(event.path)}
        case Validated():
            bands = _rounded(event.bands)
            return {"kind": "validation", "loss": event.loss, "bands": bands, "seconds": event.seconds}
        case BestSaved():
            return {"kind": "best", "loss": event.loss, "tracked": event.tracked, "path": str(event.path)}
        case MilestoneSaved():
            kept = {"milestone": event.milestone, "loss": event.loss, "path": str(event.path)}
            return {"kind": "milestone", **kept}
        case PreviewMade():
            return {"kind": "preview", "paths": [str(path) for path in event.paths], "seconds": event.seconds}


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open_for_lines(path: Path) -> TextIO:
    """Open a file to append to; a line that a crash cut off is ended, so that it does not swallow the next one."""
    file = path.open("a+b")
    if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
        file.write(b"\n")
    file.close()
    return path.open("a", encoding="utf-8", newline="\n")
