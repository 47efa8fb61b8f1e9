"""The learning rate as a pure function of the step and of the controllers' own state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidestep_core.interfaces import LRController, Progress


class Schedule:
    """Warm-up and the product of all controllers, as one factor on the peak rate.

    Args:
        controllers: by name, so that their state can be stored.
        learning_rate: peak rate.
        total_steps: optimizer steps of the run.
        warmup_steps: steps until the peak.
        start_factor: share of the peak at the first step.
        steps_per_epoch: optimizer steps of one epoch.
    """

    def __init__(
        self,
        controllers: Mapping[str, LRController],
        *,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int,
        start_factor: float,
        steps_per_epoch: int,
    ) -> None:
        self._controllers = controllers
        self._learning_rate = learning_rate
        self._warmup_steps = warmup_steps
        self._start_factor = start_factor
        self._total_steps = max(1, total_steps - warmup_steps)
        self._steps_per_epoch = steps_per_epoch

    def factor(self, step: int) -> float:
        """Return the factor for the step after `step` finished ones."""
        progress = Progress(
            step=max(0, step - self._warmup_steps),
            total_steps=self._total_steps,
            steps_per_epoch=self._steps_per_epoch,
            learning_rate=self._learning_rate,
        )
        factor = self._warmup(step)
        for controller in self._controllers.values():
            factor *= controller.scale(progress)
        return factor

    def apply(self, groups: Sequence[dict[str, Any]], peaks: Sequence[float], step: int) -> float:
        """Set the rate of every parameter group to its own peak times the factor; return the first one's."""
        factor = self.factor(step)
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * factor
        return peaks[0] * factor

    def observe(self, loss: float, step: int) -> None:
        """Show a step's loss to the controllers that follow it."""
        for controller in self._controllers.values():
            if hasattr(controller, "observe"):
                controller.observe(loss, step)

    def report(self) -> dict[str, float]:
        """Return what controllers have to tell."""
        told: dict[str, float] = {}
        for controller in self._controllers.values():
            if hasattr(controller, "report"):
                told.update(controller.report())
        return told

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the controllers that have one."""
        return {name: c.state_dict() for name, c in self._controllers.items() if hasattr(c, "state_dict")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it; controllers without stored state keep their own."""
        for name, controller in self._controllers.items():
            if name in state and hasattr(controller, "load_state_dict"):
                controller.load_state_dict(state[name])

    def _warmup(self, step: int) -> float:
        if step >= self._warmup_steps:
            return 1.0
        return self._start_factor + (1 - self._start_factor) * step / self._warmup_steps
