"""Learning-rate schedules as pure factors on the peak rate. They start when the warm-up ends."""

from __future__ import annotations

import math

from sidestep_core.builtins.configs import CosineConfig
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext


class Cosine:
    """Falls from 1 to the smallest ratio along half a cosine."""

    def __init__(self, config: CosineConfig, context: BuildContext) -> None:
        """Take the smallest ratio."""
        self.smallest = config.cosine_eta_min_ratio

    def scale(self, progress: Progress) -> float:
        """Return the factor at a step."""
        done = min(1.0, progress.step / max(1, progress.total_steps))
        return self.smallest + (1 - self.smallest) * (1 + math.cos(math.pi * done)) / 2


class Constant:
    """Leaves the rate at its peak."""

    def __init__(self, config: None, context: BuildContext) -> None:
        """Need nothing."""

    def scale(self, progress: Progress) -> float:
        """Return 1."""
        return 1.0
