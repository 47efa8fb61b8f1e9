"""The observer that writes `progress.jsonl` in the run folder: one JSON object a line, appended as things happen.

Every line has `ts` (seconds since 1970) and `kind`; numbers that are not finite are null.

- `start`: step, total_steps, max_epochs, steps_per_epoch, songs, trainable. A second one marks a resume: lines above it
  with a later step were overtaken.
- `step`: step, epoch, max_epochs, loss, lr, steps_per_epoch, smoothed, grad_norm, steps_per_second, memory, and what
  controllers report (target_loss_scale and target_loss_ema with cruise).
- `epoch`: step, epoch, max_epochs, loss, epoch_time.
- `skip`: step, songs. `checkpoint`: step, epoch, path.
- `complete` and `stopped`: step, loss, reason, adapter, seconds. `fail`: step, msg.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

from sidestep_core.errors import LoadError
from sidestep_core.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Notice,
    RunFinished,
    RunStarted,
    StepsDone,
    StepSkipped,
)
from sidestep_core.runs import PROGRESS
from sidestep_core.specs import BuildContext


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

    def _line(self, event: Event) -> dict[str, Any] | None:
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
                }
            case StepsDone():
                return {
                    "kind": "step",
                    **event.extra,
                    "step": event.step,
                    "epoch": event.epoch,
                    "max_epochs": event.epochs,
                    "loss": event.loss,
                    "lr": event.learning_rate,
                    "steps_per_epoch": self._steps_per_epoch,
                    "smoothed": event.smoothed,
                    "grad_norm": event.grad_norm,
                    "steps_per_second": event.steps_per_second,
                    "memory": event.memory,
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
            case CheckpointSaved():
                return {"kind": "checkpoint", "step": event.step, "epoch": event.epoch, "path": str(event.path)}
            case RunFinished(reason="failed"):
                return {"kind": "fail", "step": event.step, "msg": self._warning}
            case RunFinished():
                return {
                    "kind": "stopped" if event.reason == "stopped" else "complete",
                    "step": event.step,
                    "loss": event.loss,
                    "reason": event.reason,
                    "adapter": str(event.adapter) if event.adapter else None,
                    "seconds": event.seconds,
                }
        return None

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        # a reader follows the file while it grows: every line is handed on whole
        self._file.write(json.dumps(finite, ensure_ascii=False) + "\n")
        self._file.flush()
