"""The largest components of a matrix, and low-rank updates made of them."""

from __future__ import annotations

import torch
from torch import Tensor

from sidestep_core.formats.updates import LowRank

_OVERSAMPLING = 8
_ITERATIONS = 8


def components(matrix: Tensor, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest singular vectors and values, by subspace iteration: a full SVD takes a minute a layer.

    Args:
        matrix: [out, in], float32.
        count: how many; the smaller side's at most are returned.
        generator: where the start is drawn from, on the CPU; the global one if None.

    Returns:
        Left vectors [out, n], values [n] and right vectors [n, in].
    """
    width = min(count + _OVERSAMPLING, *matrix.shape)
    basis = matrix @ torch.randn(matrix.shape[1], width, generator=generator).to(matrix.device)
    for _ in range(_ITERATIONS):
        other = torch.linalg.qr(matrix.T @ basis)[0]
        basis = torch.linalg.qr(matrix @ other)[0]
    left, values, right = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ left[:, :count], values[:count], right[:count]


def approximate(name: str, difference: Tensor, rank: int) -> tuple[LowRank, float]:
    """Return the best update of a rank for a weight difference, and its relative error in the Frobenius norm.

    Equal differences give equal updates.

    Args:
        name: the module.
        difference: [out, in], float32.
        rank: width of the update, cut to what the difference can have.
    """
    left, values, right = components(difference, min(rank, *difference.shape), torch.Generator().manual_seed(0))
    roots = values.sqrt()
    update = LowRank(name=name, down=roots[:, None] * right, up=left * roots)
    return update, relative_error(update.delta(), difference)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the Frobenius norm of what is missing as a share of what is wanted; 0 where nothing is."""
    size = wanted.norm()
    return float((found - wanted).norm() / size) if size > 0 else 0.0
