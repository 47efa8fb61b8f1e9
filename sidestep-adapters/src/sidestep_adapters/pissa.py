"""The largest components of a weight, as a start for two low-rank matrices (PiSSA)."""

from __future__ import annotations

import torch
from sidestep_core.formats.principal import components
from torch import Tensor


def principal_factors(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return A and B such that `scale * B @ A` is nearly the best approximation of a weight.

    Args:
        weight: [out, in], float32.
        down: random A [rank, in]; rows beyond the rank of the weight are kept.
        up: zero B [out, rank], likewise.
        scale: factor on the product.
    """
    left, values, right = components(weight, len(down))
    roots = (values / scale).sqrt()
    found = len(values)
    down, up = down.to(weight.device), up.to(weight.device)
    return (
        torch.cat([roots[:, None] * right, down[found:]]),
        torch.cat([left * roots, up[:, found:]], dim=1),
    )
