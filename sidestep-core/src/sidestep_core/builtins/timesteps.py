"""Timestep samplers: which noise levels a run trains on. t = 1 is pure noise."""

from __future__ import annotations

import torch
from torch import Tensor

from sidestep_core.builtins.configs import ContinuousConfig
from sidestep_core.specs import BuildContext

DEFAULT_MU, DEFAULT_SIGMA = -0.4, 1.0
SHIFT, STEPS = 3.0, 8


class Continuous:
    """Draws the larger of two logit-normal values, so that the density leans to noise."""

    def __init__(self, config: ContinuousConfig, context: BuildContext) -> None:
        """Take mu and sigma from the settings, then from the checkpoint."""
        dims = context.model
        self.mu = _first(config.timestep_mu, getattr(dims, "timestep_mu", None), DEFAULT_MU)
        self.sigma = _first(config.timestep_sigma, getattr(dims, "timestep_sigma", None), DEFAULT_SIGMA)

    def sample(self, batch_size: int, *, generator: torch.Generator) -> Tensor:
        """Return float32 timesteps [batch_size] in (0, 1)."""
        device = generator.device
        first, second = (torch.randn(batch_size, generator=generator, device=device) for _ in range(2))
        return torch.maximum(first, second).mul(self.sigma).add(self.mu).sigmoid()


class Discrete:
    """Draws the timesteps of turbo inference, all with the same probability."""

    def __init__(self, config: None, context: BuildContext) -> None:
        """Work out the shifted schedule."""
        uniform = [1 - k / STEPS for k in range(STEPS)]
        self.schedule = tuple(SHIFT * t / (1 + (SHIFT - 1) * t) for t in uniform)

    def sample(self, batch_size: int, *, generator: torch.Generator) -> Tensor:
        """Return float32 timesteps [batch_size] out of the schedule."""
        values = torch.tensor(self.schedule, device=generator.device)
        chosen = torch.randint(len(self.schedule), (batch_size,), generator=generator, device=generator.device)
        return values[chosen]


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
