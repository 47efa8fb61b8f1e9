"""Cruise control: the learning rate is lowered as the loss nears a target, and held there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sidestep_core.builtins.configs import CruiseConfig
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext

BAND = 0.3
STEEPNESS = 10.0


class Cruise:
    """Follows the averaged loss. Its factor is worked out anew for each step and is nowhere but in the rate.

    Args:
        config: target and how to approach it.
        context: not needed.

    Raises:
        ConfigError: there is no target.
    """

    def __init__(self, config: CruiseConfig, context: BuildContext) -> None:
        """Take the target."""
        if config.target_loss is None:
            raise ConfigError("cruise needs a loss to aim for: give --target-loss, or leave cruise out")
        self.target = config.target_loss
        self.config = config
        self._ema: float | None = None
        self._loss = 0.0
        self._seen = 0
        self._factor = 1.0

    def scale(self, progress: Progress) -> float:
        """Return the factor for the next step."""
        waits = progress.step == 0 or self._seen < self.config.target_loss_warmup
        if not self.target or self._ema is None or waits:
            self._factor = 1.0
        else:
            self._factor = damping(self._ema, self._loss, target=self.target, floor=self.config.target_loss_floor)
        return self._factor

    def observe(self, loss: float, step: int) -> None:
        """Take the loss of a step, counted from 0, into the average."""
        keep = self.config.target_loss_smoothing
        self._ema = loss if self._ema is None else keep * self._ema + (1 - keep) * loss
        self._loss, self._seen = loss, step + 1

    def report(self) -> Mapping[str, float]:
        """Return the factor that the last step was made with and the averaged loss after it."""
        if not self.target or self._ema is None:
            return {}
        return {"target_loss_scale": self._factor, "target_loss_ema": self._ema}

    def state_dict(self) -> dict[str, Any]:
        """Return the average, the last loss and the steps seen."""
        return {"ema": self._ema, "loss": self._loss, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from them."""
        self._ema, self._loss, self._seen = state["ema"], state["loss"], state["seen"]


def damping(ema: float, loss: float, *, target: float, floor: float) -> float:
    """Return the factor at an averaged loss.

    It falls smoothly from 1 to the floor as the average comes from 30 per cent above the target down to it, and fast
    below the floor after that; one loss below the target brings it down to the floor at once.

    Args:
        ema: averaged loss.
        loss: loss of the last step.
        target: loss to stay at, above 0.
        floor: factor at the target.
    """
    if ema > target:
        height = min(1.0, (ema - target) / (BAND * target))
        factor = floor + height * height * (3 - 2 * height) * (1 - floor)
    else:
        factor = floor * math.exp(-STEEPNESS * (target - ema) / target)
    return min(factor, floor) if loss < target else factor
