"""AdamW as torch has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.capabilities import CAPABILITIES
from sidestep_core.specs import BuildContext


class AdamW:
    """Makes torch's AdamW."""

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self.weight_decay = config.weight_decay

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return AdamW over the groups, as one fused kernel where all their devices have it."""
        own = [dict(group) for group in groups]
        devices = {parameter.device.type for group in own for parameter in group["params"]}
        fused = all(kind in CAPABILITIES and CAPABILITIES[kind].fused for kind in devices)
        return torch.optim.AdamW(own, weight_decay=self.weight_decay, fused=fused)
