"""AdamW that averages as it goes and needs no schedule, from schedulefree.

It trains on one set of weights and gives away another: `eval()` puts those in place, `train()` goes back. The way back
rounds, so whoever calls `eval()` in the middle of a run must restore the weights it found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from schedulefree import AdamWScheduleFree

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.specs import BuildContext


class ScheduleFreeAdamW:
    """Makes the schedule-free AdamW."""

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self.weight_decay = config.weight_decay

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return it over the groups, in training mode."""
        optimizer = AdamWScheduleFree([dict(group) for group in groups], weight_decay=self.weight_decay)
        optimizer.train()
        made: torch.optim.Optimizer = optimizer
        return made
