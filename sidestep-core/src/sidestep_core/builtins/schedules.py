"""Learning-rate schedules as pure factors on the peak rate. They start when the warm-up ends."""

from __future__ import annotations

import math

from sidestep_core.builtins.configs import CosineConfig, CosineRestartsConfig
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext

LINEAR_END = 0.01


class Cosine:
    """Falls from 1 to the smallest ratio along half a cosine."""

    def __init__(self, config: CosineConfig, context: BuildContext) -> None:
        """Take the smallest ratio."""
        self.smallest = config.cosine_eta_min_ratio

    def scale(self, progress: Progress) -> float:
        """Return the factor at a step."""
        return _half_cosine(_done(progress), self.smallest)


class CosineRestarts:
    """Falls from 1 to the smallest ratio several times, each time from the peak again."""

    def __init__(self, config: CosineRestartsConfig, context: BuildContext) -> None:
        """Take the smallest ratio and how many times."""
        self.smallest = config.cosine_eta_min_ratio
        self.count = config.cosine_restarts_count

    def scale(self, progress: Progress) -> float:
        """Return the factor at a step."""
        total = max(1, progress.total_steps)
        # in whole numbers, and without a remainder: a further start from the peak would end the run there
        return _half_cosine(progress.step * min(self.count, total) % total / total, self.smallest)


class Linear:
    """Falls in a straight line."""

    def __init__(self, config: None, context: BuildContext) -> None:
        """Need nothing."""

    def scale(self, progress: Progress) -> float:
        """Return the factor at a step."""
        return 1 - (1 - LINEAR_END) * _done(progress)


class Constant:
    """Leaves the rate at its peak."""

    def __init__(self, config: None, context: BuildContext) -> None:
        """Need nothing."""

    def scale(self, progress: Progress) -> float:
        """Return 1."""
        return 1.0


def _done(progress: Progress) -> float:
    return min(1.0, progress.step / max(1, progress.total_steps))


def _half_cosine(done: float, smallest: float) -> float:
    return smallest + (1 - smallest) * (1 + math.cos(math.pi * done)) / 2
