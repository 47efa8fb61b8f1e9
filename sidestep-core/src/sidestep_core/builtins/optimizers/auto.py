"""The optimizer of a run that names none: 8-bit AdamW on CUDA, AdamW elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.builtins.optimizers.adamw import AdamW
from sidestep_core.builtins.optimizers.adamw8bit import AdamW8bit
from sidestep_core.specs import BuildContext


class Auto:
    """Makes the optimizer that suits the device.

    Attributes:
        notices: why it is plain AdamW on CUDA, if it is, once it was made.
    """

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self._plain, self._small = AdamW(config, context), AdamW8bit(config, context)
        self.notices: tuple[str, ...] = ()

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return the one for the device that the groups are on."""
        own = [dict(group) for group in groups]
        if {parameter.device.type for group in own for parameter in group["params"]} != {"cuda"}:
            return self._plain.create(own)
        made = self._small.create(own)
        self.notices = self._small.notices
        return made
