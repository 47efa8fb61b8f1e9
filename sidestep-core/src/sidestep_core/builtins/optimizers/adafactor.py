"""Adafactor from transformers, at the rate it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers.optimization import Adafactor as AdafactorOptimizer

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.specs import BuildContext


class Adafactor:
    """Makes Adafactor with neither a rate of its own nor one scaled by the weights."""

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self.weight_decay = config.weight_decay

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return Adafactor over the groups."""
        optimizer: torch.optim.Optimizer = AdafactorOptimizer(
            [dict(group) for group in groups],
            scale_parameter=False,
            relative_step=False,
            weight_decay=self.weight_decay,
        )
        return optimizer
