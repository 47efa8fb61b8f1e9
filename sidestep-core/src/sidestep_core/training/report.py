"""The numbers of a run's events: losses since the last one, times and rates."""

from __future__ import annotations

import time
from pathlib import Path

from sidestep_core.device import used_memory
from sidestep_core.events import EpochDone, RunFinished, StepsDone
from sidestep_core.training.state import RunState
from sidestep_core.training.step import StepResult


class Reporter:
    """Makes the events of one call of `train`; its clocks start when it is made.

    Args:
        state: where the run stands.
        device: whose memory is reported.
    """

    def __init__(self, state: RunState, device: str) -> None:
        self._state, self._device = state, device
        self._began = self._epoch_began = self._reported_at = time.monotonic()
        self._reported = state.step
        plan = state.plan
        self._has_weights = plan.request.train.loss_weighting != "none" or any(s.weight != 1 for s in plan.songs)

    def steps_done(self, result: StepResult) -> StepsDone:
        """Return what happened since the last such event."""
        state, now = self._state, time.monotonic()
        bands, samples = state.losses.bands.take()
        event = StepsDone(
            step=state.step,
            total_steps=state.plan.total_steps,
            epoch=state.epoch,
            epochs=state.plan.request.train.epochs,
            loss=state.losses.report.take(),
            smoothed=state.losses.smoothed,
            learning_rate=result.learning_rate,
            grad_norm=result.grad_norm,
            steps_per_second=(state.step - self._reported) / max(now - self._reported_at, 1e-9),
            memory=used_memory(self._device),
            extra=self._extra(),
            bands=bands,
            samples=samples,
            gradients=result.gradients,
        )
        self._reported, self._reported_at = state.step, now
        return event

    def _extra(self) -> dict[str, float]:
        weighted = self._state.losses.weighted.take()
        told = self._state.trainer.schedule.report()
        return {**told, "weighted_loss": weighted} if self._has_weights else told

    def epoch_done(self) -> EpochDone:
        """Return what the epoch came to that ends with this step."""
        state, now = self._state, time.monotonic()
        event = EpochDone(
            epoch=state.epoch,
            epochs=state.plan.request.train.epochs,
            step=state.step,
            loss=state.losses.epoch.take(),
            seconds=now - self._epoch_began,
        )
        self._epoch_began = now
        return event

    def finished(self, reason: str, adapter: Path | None) -> RunFinished:
        """Return how the run ended."""
        return RunFinished(
            step=self._state.step,
            reason=reason,
            loss=self._state.losses.smoothed,
            adapter=adapter,
            seconds=time.monotonic() - self._began,
        )
