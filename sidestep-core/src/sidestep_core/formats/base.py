"""The decoder's weights under their original names, read from a model's files one at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sidestep_core.errors import AdapterError
from sidestep_core.formats.updates import Update
from sidestep_core.model.folder import ModelFolder, part_tensors
from sidestep_core.model.headers import TensorInfo
from sidestep_core.model.names import PREFIXES, to_original
from sidestep_core.model.streaming import read_rows, read_tensor

_PART = "transformer"
_WEIGHT = ".weight"


class BaseWeights:
    """Weights of a model's decoder.

    Attributes:
        model: the model.
        tensors: original module name -> where its weight is.
    """

    def __init__(self, model: ModelFolder) -> None:
        self.model = model
        self.tensors: dict[str, TensorInfo] = {
            to_original(_PART, key).removeprefix(PREFIXES[_PART]).removesuffix(_WEIGHT): info
            for key, info in part_tensors(model, _PART).items()
            if key.endswith(_WEIGHT) and len(info.shape) > 1
        }

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return (out, in) of every weight; a kernel's further dimensions are part of `in`."""
        return {name: (info.shape[0], math.prod(info.shape[1:])) for name, info in self.tensors.items()}

    def weight(self, name: str) -> Tensor:
        """Return the weight of a module, float32 [out, in].

        Raises:
            AdapterError: the model has no such module.
            CheckpointError: its file cannot be read.
        """
        if name not in self.tensors:
            raise AdapterError(f"the adapter does not fit {self.model.name!r}: {name!r} is not there")
        return read_tensor(self.tensors[name], "cpu", torch.float32).flatten(1)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return some rows of a weight, float32; no others are read.

        Raises:
            CheckpointError: its file cannot be read.
        """
        return read_rows(self.tensors[name], start, stop).float()

    def check(self, update: Update) -> None:
        """Raise `AdapterError` if an update is not of the shape that the model has there."""
        shape = self.shapes().get(update.name)
        found = (update.out_features if update.out_features is not None or shape is None else shape[0],)
        if shape != (*found, update.in_features):
            there = f"is {shape}" if shape else "is not there"
            wanted = f", not {(*found, update.in_features)}" if shape else ""
            raise AdapterError(f"the adapter does not fit {self.model.name!r}: {update.name!r} {there}{wanted}")
