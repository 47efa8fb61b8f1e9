"""A saved adapter on a decoder, for listening: what it adds to each projection, whatever its type."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from sidestep_core.errors import AdapterError
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.names import module_path


def add_deltas(decoder: Decoder, deltas: Iterable[tuple[str, Tensor]]) -> None:
    """Let a decoder work as if weight differences were added to its projections, in place.

    Args:
        decoder: frozen, without an adapter.
        deltas: `(module name, [out, in])` in ACE-Step's names.

    Raises:
        AdapterError: it has no such projection, or one of another shape.
    """
    shapes = projection_shapes(decoder.dims)
    for name, delta in deltas:
        if shapes.get(name) != tuple(delta.shape):
            there = f"is {shapes[name]}" if name in shapes else "is not there"
            raise AdapterError(f"the adapter does not fit the model: {name!r} {there}, not {tuple(delta.shape)}")
        path = module_path(name)
        base = decoder.transformer.get_submodule(path)
        decoder.transformer.set_submodule(path, _Changed(base, delta))


class _Changed(nn.Module):
    """`W x + D x`: the sum W + D, rounded to the weight's few digits, would lose a small difference."""

    delta: Tensor

    def __init__(self, base_layer: nn.Module, delta: Tensor) -> None:
        super().__init__()
        self.base_layer = base_layer
        weight: Tensor = base_layer.weight  # type: ignore[assignment]
        self.register_buffer("delta", delta.to(weight.device, weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base_layer(x)
        return output + F.linear(x, self.delta)
