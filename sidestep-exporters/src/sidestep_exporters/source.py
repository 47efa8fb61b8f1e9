"""What is exported: a saved adapter, checked against the target and the model, one module at a time."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from sidestep_core.errors import ExportError
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.keys import CONVOLUTIONS
from sidestep_core.formats.reading import read_update
from sidestep_core.formats.saved import Parts, SavedAdapter, read_adapter
from sidestep_core.formats.updates import Update
from sidestep_core.interfaces import ExportRequest
from torch import Tensor

from sidestep_exporters.configs import INSTEAD

_DTYPES = {"keep": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@attrs.frozen
class Intended:
    """What a host shall read for a module.

    Attributes:
        update: the update before it is rounded.
        dtype: what its tensors are rounded to; None is each tensor's own type.
    """

    update: Update
    dtype: torch.dtype | None


@attrs.frozen(kw_only=True, eq=False)
class Source:
    """An adapter ready to be written.

    Attributes:
        saved: its files.
        parts: tensors of each adapted module, by original name in layer order.
        dtype: type that is wanted, None to keep each module's own.
        base: weights of the model it belongs to, if that is known.
    """

    saved: SavedAdapter
    parts: Mapping[str, Parts]
    dtype: torch.dtype | None
    base: BaseWeights | None

    def update(self, name: str) -> Update:
        """Return the trained update of a module, as it is stored."""
        return read_update(self.saved, name, self.parts[name])

    def intended(self, name: str) -> Intended:
        """Return what a host shall read of a module that is written as it is."""
        return Intended(self.update(name), self.dtype)

    def weight(self, name: str) -> Tensor:
        """Return a module's weight in float64 [out, in]: the model's, or made-up numbers where none is known.

        A proof on made-up weights is one too: reader and file are compared, and both see the same weights.
        """
        if self.base is not None:
            return self.base.weight(name).double()
        generator = torch.Generator().manual_seed(len(name))
        rows, columns = self.shape(name)
        made: Tensor = torch.randn(rows, columns, generator=generator, dtype=torch.float64) / columns**0.5
        return made

    def shape(self, name: str) -> tuple[int, int]:
        """Return (out, in) of a module's weight; square where neither update nor model tell."""
        if self.base is not None:
            return self.base.shapes()[name]
        update = self.update(name)
        return update.out_features or update.in_features, update.in_features

    def tree(self) -> dict[str, tuple[int, int]]:
        """Return (out, in) of what the host's decoder has, by original name: all of the model's, else the adapted."""
        return self.base.shapes() if self.base is not None else {name: self.shape(name) for name in self.parts}

    def one_kind(self, target: str) -> str:
        """Return the one kind that all updates are of, for a target of which the libraries take no more.

        Raises:
            ExportError: there are several, or a convolution is adapted.
        """
        self.check_linear(target)
        kinds = sorted(self.saved.kinds())
        if len(kinds) > 1:
            raise ExportError(f"no library loads {' and '.join(kinds)} from one adapter; {INSTEAD}")
        return kinds[0]

    def check_linear(self, target: str) -> None:
        """Raise `ExportError` if a convolution is adapted, for targets that have a form for projections alone."""
        if found := sorted(CONVOLUTIONS & self.parts.keys()):
            raise ExportError(f"target {target!r} has no form for {found[0]!r}, a convolution; comfyui and merged have")

    def model(self, target: str) -> BaseWeights:
        """Return the model's weights for a target that cannot do without.

        Raises:
            ExportError: no model is known.
        """
        if self.base is None:
            kinds = ", ".join(sorted(self.saved.kinds()))
            raise ExportError(
                f"target {target!r} needs the weights of the model for {kinds}: give --checkpoint-dir and --model"
            )
        return self.base


def open_source(request: ExportRequest) -> Source:
    """Read the adapter of a request.

    Raises:
        AdapterError: its files are damaged, or it does not fit the model.
        ExportError: there is no such dtype.
    """
    if request.dtype not in _DTYPES:
        raise ExportError(f"no dtype {request.dtype!r}; there is {', '.join(_DTYPES)}")
    saved = read_adapter(request.adapter, request.prefix)
    base = None if request.model is None else BaseWeights(request.model)
    source = Source(saved=saved, parts=saved.modules(), dtype=_DTYPES[request.dtype], base=base)
    for name in source.parts:
        update = source.update(name)
        if base is not None:
            base.check(update)
    return source
