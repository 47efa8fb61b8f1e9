"""Prodigy from prodigyopt, which finds its own step size; the learning rate is a factor on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from prodigyopt import Prodigy as ProdigyOptimizer

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.errors import ConfigError
from sidestep_core.specs import BuildContext


class Prodigy:
    """Makes Prodigy, with bias correction and an estimate that a warm-up does not disturb.

    Schedules and cruise multiply its step size as they multiply any other rate.
    """

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self.weight_decay = config.weight_decay

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return Prodigy over the groups.

        Raises:
            ConfigError: the groups have different rates; there is one step size for all.
        """
        # set in the groups: given as an argument, prodigyopt prints a line about it
        own = [{**group, "weight_decay": self.weight_decay} for group in groups]
        if len(rates := sorted({group["lr"] for group in own})) > 1:
            given = ", ".join(f"{rate:g}" for rate in rates)
            raise ConfigError(
                f"optimizer 'prodigy' finds one step size for all weights, and the adapter asks for rates of {given}; "
                "leave out the adapter's own rates (LoRA+) or choose another optimizer"
            )
        optimizer: torch.optim.Optimizer = ProdigyOptimizer(
            own, betas=(0.9, 0.99), eps=1e-8, use_bias_correction=True, safeguard_warmup=True
        )
        return optimizer
