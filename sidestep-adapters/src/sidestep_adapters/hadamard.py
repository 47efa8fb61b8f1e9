"""A projection plus the element-wise product of two low-rank products, in whichever exact form is cheaper."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sidestep_adapters.projections import compute_dtype


def hadamard_linear(x: Tensor, weight: Tensor | None, up1: Tensor, down1: Tensor, up2: Tensor, down2: Tensor) -> Tensor:
    """Return `(weight + (up1 @ down1) * (up2 @ down2)) x`.

    The second term is a low-rank product too, of rank * rank: row by row the products of all pairs of columns. While
    that is small nothing of the weight's size is made. Else the sum of both is made, in the forward and again in the
    backward pass, and not kept in between.

    Args:
        x: [..., in].
        weight: frozen, [out, in]; None for the second term alone.
        up1: [out, rank].
        down1: [rank, in].
        up2: [out, rank].
        down2: [rank, in].
    """
    dtype = compute_dtype(x)
    if weight is not None and dtype != torch.float32:
        # a small update would be lost in a sum of fewer digits
        return F.linear(x, weight) + hadamard_linear(x, None, up1, down1, up2, down2)
    out_features, in_features, rank = len(up1), down1.shape[1], len(down1)
    # three products with each of the pair matrices against one more of the weight's size and the making of it
    if 3 * rank * rank * (out_features + in_features) <= out_features * in_features:
        down = (down1[:, None] * down2).flatten(0, 1)
        up = (up1[:, :, None] * up2[:, None]).flatten(1)
        update = F.linear(F.linear(x, down.to(dtype)), up.to(dtype))
        return update if weight is None else F.linear(x, weight) + update
    factors = (factor.to(dtype) for factor in (up1, down1, up2, down2))
    product: Tensor = _Hadamard.apply(x.to(dtype), weight, *factors)  # type: ignore[no-untyped-call]
    return product


class _Hadamard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, *factors: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, *factors)
        first, second = _products(*factors)
        return F.linear(x, _added(weight, first.mul_(second)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight, up1, down1, up2, down2 = ctx.saved_tensors
        first, second = _products(up1, down1, up2, down2)
        to_x = gradient @ _added(weight, first * second) if ctx.needs_input_grad[0] else None
        full = gradient.flatten(0, -2).T @ x.flatten(0, -2)  # [out, in]
        second.mul_(full)
        first.mul_(full)
        return to_x, None, second @ down1.T, up1.T @ second, first @ down2.T, up2.T @ first


def _products(up1: Tensor, down1: Tensor, up2: Tensor, down2: Tensor) -> tuple[Tensor, Tensor]:
    return up1 @ down1, up2 @ down2


def _added(weight: Tensor | None, update: Tensor) -> Tensor:
    """Return the sum of both; `update` is used up."""
    return update if weight is None else update.add_(weight)
