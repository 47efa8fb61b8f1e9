"""The largest components of a weight, as a start for two low-rank matrices (PiSSA)."""

from __future__ import annotations

import torch
from torch import Tensor

_OVERSAMPLING = 8
_ITERATIONS = 8


def principal_factors(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return A and B such that `scale * B @ A` is nearly the best approximation of a weight.

    Args:
        weight: [out, in], float32.
        down: random A [rank, in]; rows beyond the rank of the weight are kept.
        up: zero B [out, rank], likewise.
        scale: factor on the product.
    """
    left, values, right = _components(weight, len(down))
    roots = (values / scale).sqrt()
    found = len(values)
    down, up = down.to(weight.device), up.to(weight.device)
    return (
        torch.cat([roots[:, None] * right, down[found:]]),
        torch.cat([left * roots, up[:, found:]], dim=1),
    )


def _components(weight: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest singular vectors and values, by subspace iteration: a full SVD takes a minute a layer."""
    width = min(count + _OVERSAMPLING, *weight.shape)
    basis = weight @ torch.randn(weight.shape[1], width).to(weight.device)
    for _ in range(_ITERATIONS):
        other = torch.linalg.qr(weight.T @ basis)[0]
        basis = torch.linalg.qr(weight @ other)[0]
    left, values, right = torch.linalg.svd(basis.T @ weight, full_matrices=False)
    return basis @ left[:, :count], values[:count], right[:count]
