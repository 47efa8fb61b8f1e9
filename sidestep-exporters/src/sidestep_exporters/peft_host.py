"""What peft and diffusers made of an adapter: their own layers, asked for their own differences."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from sidestep_core.formats.keys import PEFT_PREFIX
from sidestep_core.model.headers import read_header
from sidestep_core.model.names import original_path
from torch import Tensor, nn

ADAPTER = "default"  # the name under which the hosts are told to load


class PeftHost:
    """A tree of modules on which peft's layers sit.

    Args:
        tree: the tree.
        weights: the file that it was read from.
    """

    def __init__(self, tree: nn.Module, weights: Path) -> None:
        layers: dict[str, Any] = {
            original_path(name.removeprefix(PEFT_PREFIX)): module
            for name, module in tree.named_modules()
            if isinstance(module, BaseTunerLayer)
        }
        # tensors that a file lacks are left without memory
        self._layers = {name: layer for name, layer in layers.items() if not any(p.is_meta for p in layer.parameters())}
        taken = sum(len(list(layer.parameters())) - 1 for layer in self._layers.values())  # all but the base weight
        held = read_header(weights).keys()
        self.names: Collection[str] = self._layers.keys()
        self.unused: Collection[str] = () if len(held) == taken else [f"{len(held)} tensors, of which it read {taken}"]

    def delta(self, name: str, weight: Tensor) -> Tensor:
        """Return what merging the layer into a weight adds to it."""
        layer = self._layers[name]
        base = layer.get_base_layer()
        before, base.weight = base.weight, nn.Parameter(weight.clone(), requires_grad=False)
        layer.double()
        layer.merge(adapter_names=[ADAPTER])
        after, base.weight = base.weight, before
        layer.merged_adapters.clear()
        return torch.sub(after.detach(), weight)
