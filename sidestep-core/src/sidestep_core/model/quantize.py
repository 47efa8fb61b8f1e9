"""Frozen projections in fewer bits: int8 with a scale for each row, or nf4 with one for each 64 weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sidestep_core.errors import LoadError

KINDS = ("int8", "nf4")
_INT8 = 127


class QuantizedLinear(nn.Linear):
    """A frozen projection that keeps its weight in 8 or 4 bits and multiplies in the compute type.

    Its weight is one definite matrix, whatever is done with it: `weight` makes it anew for whoever asks, such as an
    adapter that needs the length of its rows. Nothing of that size is kept; the backward pass makes it again. An
    adapter's own autograd function does the same with `parts` and `weight_of`.
    """

    def __init__(self, weight: Tensor, kind: str, dtype: torch.dtype) -> None:
        """Take the weight [out, in] in float32, one of `KINDS`, and the compute type.

        Raises:
            LoadError: a library that the kind needs is missing.
        """
        nn.Module.__init__(self)  # and no weight of nn.Linear's
        self.out_features, self.in_features = weight.shape
        self.kind, self.dtype = kind, dtype
        packed, scale = pack(weight, kind)
        # parameters, because libraries look for a module's device among them
        self.packed = nn.Parameter(packed, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.register_parameter("bias", None)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The frozen weight [out, in] in the compute type."""
        return weight_of(self, parts(self))

    def forward(self, input: Tensor) -> Tensor:
        """Return the projection of `input` [..., in]."""
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        product: Tensor = _Product.apply(input.to(dtype), self, *parts(self))  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """A product with a frozen weight that exists only while it is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear, *held: Tensor) -> Tensor:
        ctx.save_for_backward(*held)
        ctx.linear = linear
        return F.linear(x, weight_of(linear, held).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return gradient @ weight_of(ctx.linear, ctx.saved_tensors).to(gradient.dtype), None, None, None


def parts(linear: nn.Linear) -> tuple[Tensor, ...]:
    """Return the tensors that hold a frozen weight: itself, or what it is made of."""
    return (linear.packed, linear.scale) if isinstance(linear, QuantizedLinear) else (linear.weight,)


def weight_of(linear: nn.Linear, held: Sequence[Tensor]) -> Tensor:
    """Return the weight [out, in] that a projection's `parts` hold, in the compute type.

    The backward pass needs those that autograd kept: the projection's own may be somewhere else by then.
    """
    if not isinstance(linear, QuantizedLinear):
        return held[0]
    packed, scale = held
    return unpack(packed, scale, linear.kind, (linear.out_features, linear.in_features), linear.dtype)


def pack(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return a float32 weight [out, in] in fewer bits, and the float32 scales that belong to it.

    Raises:
        LoadError: a library that the kind needs is missing.
    """
    if kind == "nf4":
        return _nf4().pack(weight)  # type: ignore[no-any-return]
    scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _INT8
    return (weight / scale[:, None]).round_().to(torch.int8), scale


@torch.no_grad()
def unpack(packed: Tensor, scale: Tensor, kind: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return the weight [out, in] that `pack` kept, in a floating type."""
    if kind == "nf4":
        return _nf4().unpack(packed, scale, shape, dtype)  # type: ignore[no-any-return]
    # multiplied in float32 and rounded once
    return torch.mul(packed, scale[:, None], out=torch.empty(shape, dtype=dtype, device=packed.device))


def _nf4() -> Any:
    try:
        from sidestep_core.model import nf4
    except ImportError as error:
        raise LoadError("--quantize-base nf4 needs bitsandbytes: pip install 'sidestep-core[bnb]'") from error
    return nf4
