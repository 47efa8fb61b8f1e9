"""A window on the timesteps of any sampler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import TimestepSampler

BLOCK = 256
ROUNDS = 64


class Windowed:
    """Draws from a sampler until everything lies in the window: inside it, the density keeps its shape.

    If next to nothing does (a window between the steps of a discrete schedule, or far out in a tail), what is still
    outside after many draws is squeezed into the window instead. Everything else is the sampler's own.

    Args:
        sampler: what is drawn from.
        low: smallest timestep.
        high: largest timestep.

    Raises:
        ConfigError: there is nothing between the two.
    """

    def __init__(self, sampler: TimestepSampler, low: float, high: float) -> None:
        if not 0 <= low < high <= 1:
            raise ConfigError(f"no window of timesteps from {low:g} to {high:g}; it must lie between 0 and 1")
        self._sampler, self._low, self._high = sampler, low, high

    def __getattr__(self, name: str) -> Any:
        # whether a sampler observes losses and has a state is asked with hasattr
        return getattr(self._sampler, name)

    def sample(self, batch_size: int, *, generator: torch.Generator) -> Tensor:
        """Return float32 timesteps [batch_size] in the window; the generator alone decides which."""
        t = self._sampler.sample(batch_size, generator=generator)
        for _ in range(ROUNDS):
            if not (outside := self._is_outside(t)).any():
                return t
            drawn = self._sampler.sample(max(BLOCK, batch_size), generator=generator)
            fitting = drawn[~self._is_outside(drawn)]
            places = outside.nonzero().flatten()[: len(fitting)]
            t[places] = fitting[: len(places)]
        squeezed = (self._low + (self._high - self._low) * t).clamp(self._low, self._high)
        return torch.where(self._is_outside(t), squeezed, t)

    def _is_outside(self, t: Tensor) -> Tensor:
        return (t < self._low) | (t > self._high)
