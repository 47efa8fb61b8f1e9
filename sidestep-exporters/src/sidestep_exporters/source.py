"""What is exported: a trained LoRA, checked against the target and the model, in the wanted dtype."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from sidestep_core.adapter_files import LowRank, SavedAdapter, low_rank_modules, read_adapter
from sidestep_core.errors import ExportError
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.dims import projection_shapes

_DTYPES = {"keep": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@attrs.frozen(kw_only=True)
class Source:
    """A LoRA ready to be written.

    Attributes:
        saved: the trained adapter's files.
        modules: its updates with the scale folded in, in the wanted dtype.
        projections: original name -> (out, in) of what the host's decoder has: all of the model's projections if
            the model is known, else the adapted ones.
    """

    saved: SavedAdapter
    modules: tuple[LowRank, ...]
    projections: Mapping[str, tuple[int, int]]


def open_source(request: ExportRequest, target: str) -> Source:
    """Read the adapter of a request.

    Raises:
        AdapterError: its files are damaged.
        ExportError: the target cannot hold it, it does not fit the model, or there is no such dtype.
    """
    if request.dtype not in _DTYPES:
        raise ExportError(f"no dtype {request.dtype!r}; there is {', '.join(_DTYPES)}")
    saved = read_adapter(request.adapter)
    kind = saved.config.get("peft_type", saved.format)
    if saved.format != "peft" or kind != "LORA" or saved.config.get("use_dora"):
        raise ExportError(
            f"target {target!r} takes LoRA in PEFT's format; {saved.folder} holds {_describe(saved, kind)}"
        )
    modules = tuple(module.folded(_DTYPES[request.dtype]) for module in low_rank_modules(saved))
    adapted = {module.name: module.shape for module in modules}
    return Source(saved=saved, modules=modules, projections=_fitting(adapted, request))


def output_path(request: ExportRequest, target: str) -> Path:
    """Return what to write: what was given, or the folder `<adapter>-<target>` beside the adapter.

    Raises:
        ExportError: it is the adapter itself or lies inside it.
    """
    given = request.adapter.resolve()
    adapter = given.parent if given.is_file() else given
    output = request.output or adapter.with_name(f"{adapter.name}-{target}")
    if adapter in (output.resolve(), *output.resolve().parents):
        raise ExportError(f"{output} lies in the adapter's own folder; give another --output")
    return output


def _describe(saved: SavedAdapter, kind: str) -> str:
    return "DoRA" if saved.config.get("use_dora") else f"{kind!r}"


def _fitting(adapted: Mapping[str, tuple[int, int]], request: ExportRequest) -> Mapping[str, tuple[int, int]]:
    if request.model is None:
        return adapted
    projections = projection_shapes(request.model.dims)
    for name, shape in adapted.items():
        if projections.get(name) != shape:
            there = f"is {projections[name]}" if name in projections else "is not there"
            raise ExportError(f"the adapter does not fit {request.model.name!r}: {name!r} {there}, not {shape}")
    return projections
