"""Means of the loss: since the last report (also by timestep), over the epoch, and smoothed over the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from sidestep_core.training.bands import Bands, SampleLoss

SMOOTHING = 0.98


@attrs.define
class Mean:
    """A running mean."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Take a value in."""
        self.total += value
        self.count += 1

    def take(self) -> float:
        """Return the mean (NaN of nothing) and begin anew."""
        mean = self.total / self.count if self.count else float("nan")
        self.total, self.count = 0.0, 0
        return mean


@attrs.define
class LossTracker:
    """What is known of a run's loss; part of every checkpoint.

    Attributes:
        report: mean since the last report.
        weighted: the same of the loss with the samples' weights.
        epoch: mean over the epoch.
        bands: means by timestep since the last report.
        bad_steps: steps in a row whose gradients were not finite.
    """

    report: Mean = attrs.field(factory=Mean)
    weighted: Mean = attrs.field(factory=Mean)
    epoch: Mean = attrs.field(factory=Mean)
    bands: Bands = attrs.field(factory=Bands)
    bad_steps: int = 0
    _smoothed: float = 0.0
    _count: int = 0

    def add(self, loss: float, weighted: float, samples: Iterable[SampleLoss] = ()) -> None:
        """Take in the loss of a step that counted, without and with the samples' weights, and what each sample gave."""
        self.report.add(loss)
        self.weighted.add(weighted)
        self.epoch.add(loss)
        for sample in samples:
            self.bands.add(sample)
        self.bad_steps = 0
        self._smoothed = SMOOTHING * self._smoothed + (1 - SMOOTHING) * loss
        self._count += 1

    @property
    def count(self) -> int:
        """Steps that counted so far."""
        return self._count

    @property
    def smoothed(self) -> float:
        """Exponential mean, corrected for its start at zero (NaN before the first step)."""
        return self._smoothed / (1 - SMOOTHING**self._count) if self._count else float("nan")

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return attrs.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LossTracker:
        """Return the tracker that `state_dict` described."""
        means = {name: Mean(**state[name]) for name in ("report", "weighted", "epoch")}
        return cls(
            **means,
            bands=Bands(**state["bands"]),
            bad_steps=state["bad_steps"],
            smoothed=state["_smoothed"],
            count=state["_count"],
        )
