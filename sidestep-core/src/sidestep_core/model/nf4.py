"""NF4 by bitsandbytes: sixteen values at the quantiles of a normal distribution, two weights in a byte."""

from __future__ import annotations

import math

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import Tensor

BLOCK = 64


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the packed weights [count / 2, 1] and the largest absolute value of each block."""
    packed, state = quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
    return packed, state.absmax


def unpack(packed: Tensor, scale: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return the weights in their shape."""
    # as one row: the CPU kernel of bitsandbytes 0.50 takes the wrong scales where rows are no whole number of blocks
    row = torch.Size((1, math.prod(shape)))
    state = QuantState(absmax=scale, shape=row, dtype=dtype, blocksize=BLOCK, quant_type="nf4")
    weight: Tensor = dequantize_4bit(packed, state)
    return weight.view(shape)
