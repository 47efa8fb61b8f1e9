"""Judging the adapter while it is trained: which ones are kept, and when there is no use in going on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.events import BestSaved, Event, MilestoneSaved, Validated
from sidestep_core.files import atomic_folder
from sidestep_core.runs import BEST, MILESTONES
from sidestep_core.training.checkpoints import Checkpoint
from sidestep_core.training.kept import KEPT, Best, put_back, said_by
from sidestep_core.training.state import RunState
from sidestep_core.training.validation import Validator

# a new best is lower by more than this: less is no reason to write files
MIN_GAIN = 0.001
# steps until the smoothed loss is believed: the first ones have a few timesteps each and may be low by chance
SETTLED_STEPS = 50


class Keeper:
    """Follows one value: the loss of the held-out songs, or the smoothed training loss where there are none.

    Args:
        state: where the run stands; what is kept is part of it.
        validator: tries the held-out songs, None if there are none.
    """

    def __init__(self, state: RunState, validator: Validator | None) -> None:
        self._state, self._validator = state, validator
        self._config = state.plan.request.keep
        self._measure = validator.measure if validator is not None else "smoothed"

    @property
    def tracked(self) -> str:
        """What the value is."""
        return "validation" if self._validator is not None else "smoothed"

    @property
    def gives_up(self) -> bool:
        """Whether the run has gone on for as long without a new best as it may."""
        kept, patience = self._state.kept, self._state.plan.patience * self._state.plan.steps_per_epoch
        return bool(patience) and kept.best is not None and kept.judged - kept.best.step >= patience

    def restore(self, checkpoint: Checkpoint) -> list[str]:
        """Go on from a checkpoint, after the state has: the run's folders become those it had there.

        Returns:
            What could not be taken over or was set aside, a line for each.
        """
        kept, lines = self._state.kept, []
        if kept.measure != self._measure and kept.best is not None:
            kept.best = None
            lines.append("the best adapter is looked for anew: losses are measured in another way than before")
        best = checkpoint.best
        if self._config.save_best and (kept.best is None or said_by(best) != attrs.asdict(kept.best)):
            # value and files belong together: without one of them the other is worth nothing
            kept.best = best = None
        return [*lines, *put_back(self._state.plan.run, best, kept.milestones)]

    def after_step(self) -> Iterator[Event]:
        """Judge the adapter if it is time, and yield what came of it."""
        due = self._is_due()
        value = math.nan
        if self._validator is None:
            value = self._smoothed()
        elif due:
            validated = self._validate(self._validator)
            yield validated
            value = validated.loss
        yield from self._milestones(value)
        if due and self._looks_for_best():
            yield from self._compare(value)

    def _is_due(self) -> bool:
        step, plan, every = self._state.step, self._state.plan, self._config.save_best_every_n_steps
        epochs = self._config.validate_every if self._validator is not None else 1
        if step == plan.total_steps or step % (epochs * plan.steps_per_epoch) == 0:
            return True
        return every > 0 and step % every == 0 and self._looks_for_best()

    def _looks_for_best(self) -> bool:
        return self._state.step >= self._config.save_best_after * self._state.plan.steps_per_epoch

    def _validate(self, validator: Validator) -> Validated:
        began = time.monotonic()
        result = validator.validate(self._state.trainer)
        return Validated(
            step=self._state.step,
            epoch=self._state.epoch,
            loss=result.loss,
            bands=result.bands,
            seconds=time.monotonic() - began,
        )

    def _smoothed(self) -> float:
        """Return the smoothed loss, NaN until it can be believed: in short runs after a tenth of their steps."""
        losses = self._state.losses
        needed = min(SETTLED_STEPS, self._state.plan.total_steps // 10)
        return losses.smoothed if losses.count >= needed else math.nan

    def _milestones(self, value: float) -> Iterator[Event]:
        state = self._state
        for milestone in sorted(self._config.loss_milestones, reverse=True):
            name = f"loss_{milestone:g}"
            if value <= milestone and name not in state.kept.milestones:
                said = {"step": state.step, "epoch": state.epoch, "loss": value, "tracked": self.tracked}
                folder = self._write(Path(MILESTONES, name), {**said, "milestone": milestone})
                state.kept.milestones[name] = state.step
                yield MilestoneSaved(step=state.step, epoch=state.epoch, milestone=milestone, loss=value, path=folder)

    def _compare(self, value: float) -> Iterator[Event]:
        state, kept = self._state, self._state.kept
        kept.judged = state.step
        if not value < (kept.best.loss - MIN_GAIN if kept.best is not None else math.inf):
            return
        best = Best(step=state.step, epoch=state.epoch, loss=value, tracked=self.tracked)
        folder = self._write(Path(BEST), attrs.asdict(best)) if self._config.save_best else None
        kept.best, kept.measure = best, self._measure
        if folder is not None:
            yield BestSaved(**attrs.asdict(best), path=folder)

    def _write(self, place: Path, said: dict[str, Any]) -> Path:
        folder = self._state.plan.run / place
        with atomic_folder(folder) as new:
            self._state.write_adapter(new)
            (new / KEPT).write_text(json.dumps(said) + "\n", encoding="utf-8")
        return folder
