"""The schedule with a formula of one's own."""

from __future__ import annotations

import math

from sidestep_core.builtins.configs import CustomConfig
from sidestep_core.builtins.formula import NAMES, Formula
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext

CHECKED = 1000


class Custom:
    """Works the rate out of a formula. A step at which it is negative or has no value is made with the rate 0.

    Args:
        config: the formula.
        context: the run, over which the formula is tried.

    Raises:
        ConfigError: it cannot be read, or has no value somewhere.
    """

    def __init__(self, config: CustomConfig, context: BuildContext) -> None:
        """Read and try the formula."""
        try:
            self.formula = Formula(config.scheduler_formula)
        except ValueError as error:
            raise ConfigError(f"{error}; set it with --scheduler-formula") from None
        self._try(context)

    def scale(self, progress: Progress) -> float:
        """Return the factor at a step."""
        try:
            factor = self._rate(progress) / progress.learning_rate
        except (ArithmeticError, ValueError):
            return 0.0
        return max(0.0, factor) if math.isfinite(factor) else 0.0

    def _try(self, context: BuildContext) -> None:
        # the warm-up takes at most a tenth: so many steps follow it, whatever it is
        total = max(1, context.total_steps - max(1, context.total_steps // 10))
        evenly = {total * part // CHECKED for part in range(CHECKED)}
        for step in sorted({0, total // 2, total - 1} | evenly):
            progress = Progress(
                step=step,
                total_steps=total,
                steps_per_epoch=max(1, context.steps_per_epoch),
                learning_rate=context.learning_rate,
            )
            try:
                reason = "" if math.isfinite(self._rate(progress)) else "not finite"
            except (ArithmeticError, ValueError) as error:
                reason = str(error)
            if reason:
                raise ConfigError(f"scheduler formula {self.formula.shown}: {reason} at step {step} of {total}")

    def _rate(self, progress: Progress) -> float:
        total = max(1, progress.total_steps)
        values = (
            progress.step,
            total,
            progress.step / total,
            progress.step / progress.steps_per_epoch,
            total / progress.steps_per_epoch,
            progress.steps_per_epoch,
            progress.learning_rate,
        )
        return self.formula(dict(zip(NAMES, map(float, values), strict=True)))
