"""Lion from lion-pytorch: steps of one size in the direction of the momentum's sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lion_pytorch import Lion as LionOptimizer

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.specs import BuildContext


class Lion:
    """Makes Lion."""

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self.weight_decay = config.weight_decay

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return Lion over the groups."""
        optimizer: torch.optim.Optimizer = LionOptimizer([dict(g) for g in groups], weight_decay=self.weight_decay)
        return optimizer
