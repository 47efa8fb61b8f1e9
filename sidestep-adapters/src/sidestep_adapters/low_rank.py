"""What LoRA and DoRA share: the start of their matrices and their settings in files."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sidestep_adapters.configs import LowRankConfig


def random_down(rank: int, in_features: int) -> Tensor:
    """Return a start for A [rank, in], drawn on the CPU so that every device starts alike."""
    return nn.init.kaiming_uniform_(torch.empty(rank, in_features), a=math.sqrt(5))


def scale_of(config: LowRankConfig, rank: int, alpha: float) -> float:
    """Return the factor on `B @ A`."""
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)
