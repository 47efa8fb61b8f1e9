"""The loss by timestep: ten equal bands of t from 0 to 1."""

from __future__ import annotations

import math

import attrs

BANDS = 10


@attrs.frozen
class SampleLoss:
    """What one sample gave.

    Attributes:
        t: its timestep, in (0, 1].
        error: squared error summed over its frames.
        frames: its real frames.
    """

    t: float
    error: float
    frames: int


@attrs.define
class Bands:
    """Errors, frames and samples of each band since the last `take`."""

    errors: list[float] = attrs.field(factory=lambda: [0.0] * BANDS)
    frames: list[int] = attrs.field(factory=lambda: [0] * BANDS)
    samples: list[int] = attrs.field(factory=lambda: [0] * BANDS)

    def add(self, sample: SampleLoss) -> None:
        """Take a sample in."""
        band = band_of(sample.t)
        self.errors[band] += sample.error
        self.frames[band] += sample.frames
        self.samples[band] += 1

    @property
    def means(self) -> tuple[float, ...]:
        """Mean over the frames of each band, NaN for those that no sample fell into."""
        pairs = zip(self.errors, self.frames, strict=True)
        return tuple(error / count if count else math.nan for error, count in pairs)

    def take(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Return the mean loss of each band and how many samples fell into it, and begin anew."""
        taken = self.means, tuple(self.samples)
        fresh = Bands()
        self.errors, self.frames, self.samples = fresh.errors, fresh.frames, fresh.samples
        return taken


def band_of(t: float) -> int:
    """Return the band of a timestep in (0, 1]; its upper end belongs to a band."""
    return min(BANDS - 1, max(0, math.ceil(t * BANDS) - 1))
