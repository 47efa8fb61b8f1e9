"""Adaptive projected guidance, as ACE-Step's base and sft models are guided."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOMENTUM = -0.75
LONGEST = 2.5  # norm over time that the difference of a channel is cut to
TIME = 1


class Guidance:
    """Leads the flow of one generation away from that of the empty condition; it remembers earlier steps.

    Only what is orthogonal to the conditional flow is amplified, and of that no more than a fixed norm: what plain
    guidance adds along the flow is what makes audio loud and harsh.

    Args:
        scale: 1 changes nothing.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._average: Tensor | None = None

    def __call__(self, flow: Tensor, empty: Tensor) -> Tensor:
        """Return the guided flow.

        Args:
            flow: with the condition, float32 [batch, frames, channels].
            empty: with the empty one.
        """
        difference = flow - empty
        if self._average is not None:
            difference = difference + MOMENTUM * self._average
        self._average = difference
        norm = difference.norm(dim=TIME, keepdim=True)
        difference = difference * (LONGEST / norm).clamp(max=1)
        direction = F.normalize(flow, dim=TIME)
        along = (difference * direction).sum(dim=TIME, keepdim=True) * direction
        return torch.add(flow, difference - along, alpha=self._scale - 1)
