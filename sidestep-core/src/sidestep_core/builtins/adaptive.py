"""The timestep sampler that goes where the loss is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sidestep_core.builtins.configs import AdaptiveConfig
from sidestep_core.builtins.timesteps import Continuous
from sidestep_core.specs import BuildContext

BINS = 10
KEEP = 0.99
START = 1.0
# no bin is ever out of reach
LEAST = 1e-6


class Adaptive:
    """Draws some timesteps from ten bins in proportion to their averaged loss, and the others like `continuous`.

    A coin decides for each sample, so that it works with any batch size.
    """

    def __init__(self, config: AdaptiveConfig, context: BuildContext) -> None:
        """Begin with the same loss in each bin."""
        self.ratio = config.adaptive_timestep_ratio
        self.losses = [START] * BINS
        self._usual = Continuous(config, context)

    def sample(self, batch_size: int, *, generator: torch.Generator) -> Tensor:
        """Return float32 timesteps [batch_size] in (0, 1]."""
        device = generator.device
        usual = self._usual.sample(batch_size, generator=generator)
        coin, place = torch.rand(2, batch_size, generator=generator, device=device)
        weights = torch.tensor(self.losses, device=device).clamp_min(LEAST)
        bins = torch.multinomial(weights, batch_size, replacement=True, generator=generator)
        return torch.where(coin < self.ratio, (bins + 1 - place) / BINS, usual)

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Take finite losses [samples] at timesteps [samples] into the averages, one after the other."""
        for at, loss in zip(t.tolist(), losses.tolist(), strict=True):
            index = max(0, math.ceil(at * BINS) - 1)
            self.losses[index] = KEEP * self.losses[index] + (1 - KEEP) * loss

    def state_dict(self) -> dict[str, Any]:
        """Return the averages."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from them."""
        self.losses = list(state["losses"])
