"""What LyCORIS made of an adapter: its own modules, asked for what their forward pass adds to the weight."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from lycoris.logging import logger
from lycoris.wrapper import create_lycoris_from_weights
from safetensors.torch import load_file
from sidestep_core.formats.keys import lycoris_name
from torch import Tensor, nn

READER = f"LyCORIS {importlib.metadata.version('lycoris-lora')}"


class LycorisHost:
    """Modules that LyCORIS built from a file for a tree of projections.

    Args:
        tree: projections under their original names.
        file: the file.
    """

    def __init__(self, tree: nn.Module, file: Path) -> None:
        names = {lycoris_name(name): name for name, module in tree.named_modules() if isinstance(module, nn.Linear)}
        tensors = load_file(file)
        with torch.no_grad(), _Quiet():
            network, _ = create_lycoris_from_weights(1.0, "", tree, weights_sd=tensors)
        self._modules: dict[str, Any] = {names[module.lora_name]: module for module in network.loras}
        taken = {f"{module.lora_name}.{part}" for module in network.loras for part in type(module).weight_list}
        self.names: Collection[str] = self._modules.keys()
        self.unused: Collection[str] = tensors.keys() - taken

    @torch.no_grad()
    def delta(self, name: str, weight: Tensor) -> Tensor:
        """Return what the module adds to a weight. Its own `merge_to` is not asked: it applies the scale twice."""
        module = self._modules[name].double()
        difference: Tensor = module.get_weight(module.shape) * module.scalar
        if module.wd:
            difference = module.apply_weight_decompose(weight + difference) - weight
        return difference


class _Quiet:
    """Keeps LyCORIS from writing on the terminal what it loads."""

    def __enter__(self) -> None:
        self._level = logger.level
        logger.setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        logger.setLevel(self._level)
