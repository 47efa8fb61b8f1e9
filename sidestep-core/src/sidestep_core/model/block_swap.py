"""Layers whose frozen weights wait in main memory and are on the device only while the layer is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

# devices that copy on a stream of their own while they compute
_STREAMS: dict[str, Any] = {"cuda": torch.cuda, "xpu": torch.xpu}


class BlockSwap:
    """Computes layers whose frozen projections wait in main memory; whatever is trained stays on the device.

    While one of them is computed the next one's weights are copied, so that at most two are on the device. Who needs
    gradients has to compute such a layer again in the backward pass (`torch.utils.checkpoint`): what autograd kept of
    the first time would hold the weights there.

    Args:
        waiting: index -> layer; their projections are in main memory already.
        device: where layers are computed.
    """

    def __init__(self, waiting: Mapping[int, nn.Module], device: torch.device) -> None:
        self._device = device
        self._library = _STREAMS.get(device.type) if waiting else None
        self._side = self._library.Stream(device) if self._library else None
        self._weights = {index: self._pinned(layer) for index, layer in sorted(waiting.items())}
        self._arriving: dict[int, dict[int, Tensor]] = {}
        self._last = -1

    def __contains__(self, index: int) -> bool:
        """Tell whether a layer's weights wait."""
        return index in self._weights

    def __call__(self, index: int, layer: nn.Module, *arguments: Any) -> Tensor:
        """Return what a waiting layer gives."""
        weights = self._take(index)
        self._fetch_next(index)
        # by where they are now: an adapter may be taken off for a while
        named = {name: weights[id(tensor)] for name, tensor in frozen(layer)}
        output: Tensor = functional_call(layer, named, arguments, tie_weights=False)
        return output

    def place(self, root: nn.Module) -> None:
        """Bring everything in a module to the device but what waits."""
        stay = {id(tensor) for weights in self._weights.values() for tensor in weights}
        root._apply(lambda tensor: tensor if id(tensor) in stay else tensor.to(self._device))

    def _take(self, index: int) -> dict[int, Tensor]:
        weights = self._arriving.pop(index, None) or self._fetch(index)
        if self._library is not None:
            now = self._library.current_stream(self._device)
            now.wait_stream(self._side)
            for tensor in weights.values():
                tensor.record_stream(now)  # its memory is the other stream's, which must not use it again too early
        return weights

    def _fetch_next(self, index: int) -> None:
        """Begin to copy the next layer that waits: they come in order, and backwards in the backward pass."""
        if index > self._last:
            following = [i for i in self._weights if i > index][:1]
        else:
            following = [i for i in self._weights if i < index][-1:]
        self._last = index
        self._arriving = {i: self._fetch(i) for i in following}

    def _fetch(self, index: int) -> dict[int, Tensor]:
        """Return copies of a layer's weights on the device, by the identity of those that wait."""
        with self._library.stream(self._side) if self._library else nullcontext():
            # copied on the CPU too, where it shows that nothing depends on the weights that wait
            return {
                id(tensor): tensor.to(self._device, non_blocking=True, copy=True) for tensor in self._weights[index]
            }

    def _pinned(self, layer: nn.Module) -> list[Tensor]:
        """Return what waits of a layer, where the device can copy it directly; the layer holds the same memory."""
        weights = [tensor for _, tensor in frozen(layer)]
        if self._side is not None:
            for tensor in weights:
                tensor.data = tensor.data.pin_memory()
        return weights


def frozen(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the frozen tensors of a layer's projections; what else is frozen is small."""
    for path, module in layer.named_modules():
        if isinstance(module, nn.Linear):
            own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            yield from ((f"{path}.{name}", tensor) for name, tensor in own if not tensor.requires_grad)
