"""`comfyui`: one file for ComfyUI's ACE-Step 1.5 loader, read back by its published rules."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from sidestep_core.errors import ExportError
from sidestep_core.formats.keys import COMFYUI_PREFIX, PEFT_PREFIX, lycoris_name
from sidestep_core.formats.updates import Full, Kronecker, LowRank, Update
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import Planned, planned
from torch import Tensor

from sidestep_exporters.comfyui_host import READER, ComfyuiHost
from sidestep_exporters.configs import EVERYTHING, ComfyuiConfig
from sidestep_exporters.frame import Made, Tensors, export
from sidestep_exporters.layouts import header, loss_metadata, module_tensors
from sidestep_exporters.lora import loss_note, low_rank
from sidestep_exporters.proof import prove
from sidestep_exporters.source import Intended, Source

_LARGE = 1_000_000_000  # bytes


class ComfyuiExporter:
    """Writes the file and reads it as ComfyUI does."""

    name, accepts, instead, beside = "comfyui", EVERYTHING, "", True

    def __init__(self, config: ComfyuiConfig, context: BuildContext) -> None:
        self._config = config

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-comfyui.safetensors`, or the file that was asked for, or that name in a folder.

        Raises:
            AdapterError: the adapter's files are damaged, or it does not fit the model.
            ExportError: the adapter depends on the model's weights and no model is known.
            ProofError: it does not read back as trained; no file is left.
        """
        return export(self, request)

    def file(self, source: Source, adapter: str) -> str:
        """Return the name of the file."""
        return f"{adapter}-{self.name}.safetensors"

    def make(self, source: Source, file: str) -> Made:
        """Return the file: what ComfyUI has a form for as it is, all else as differences or approximated."""
        written = {name: self._written(source, name) for name in source.parts}
        tensors = {key: plan for module in written.values() for key, plan in module.tensors.items()}
        losses = {name: module.loss for name, module in written.items() if module.loss is not None}
        metadata = {"format": "pt", **header(source, self.name, map(source.update, source.parts))}
        own = self._config.prefix if self._config.prefix not in ("native", "generic") else ""
        return Made(
            files={file: Tensors(tensors=tensors, metadata=metadata | (loss_metadata(losses) if losses else {}))},
            prove=lambda folder: prove(
                source,
                lambda name: written[name].intended(source),
                READER,
                lambda: ComfyuiHost(source.tree(), folder / file, own),
            ),
            reader=READER,
            losses=losses,
            notes=tuple(self._notes(tensors, losses)),
        )

    def _written(self, source: Source, name: str) -> _Module:
        update, dtype = source.update(name), source.dtype
        if update.needs_weight and self._config.full == "svd":
            approximation, loss = low_rank(source, name, self.name, self._config.rank)
            dtype = dtype or update.dtype
            tensors = _planned(self._key(approximation), _portable(approximation.folded(dtype)))
            return _Module(name=name, tensors=tensors, dtype=dtype, low_rank=approximation, loss=loss)
        if update.needs_weight or isinstance(update, Full):
            dtype = dtype or update.dtype
            shape = _weight_shape(source, name, self.name)
            plan = planned(dtype, shape, lambda: difference(source, name).to(dtype))
            return _Module(name=name, tensors={f"{self._key(update, whole=True)}.diff": plan}, dtype=dtype, whole=True)
        tensors = _planned(self._key(update), _portable(update.folded(dtype)))
        return _Module(name=name, tensors=tensors, dtype=dtype)

    def _key(self, update: Update, *, whole: bool = False) -> str:
        """Return what a module is called in the file."""
        prefix = self._config.prefix
        if prefix == "native":
            plain = whole or isinstance(update, LowRank)
            return f"{PEFT_PREFIX}{update.name}" if plain else lycoris_name(update.name)
        return f"{COMFYUI_PREFIX}{update.name}" if prefix == "generic" else f"{prefix}.{update.name}"

    def _notes(self, tensors: Mapping[str, Planned], losses: dict[str, float]) -> list[str]:
        if losses:
            return [loss_note(losses, self._config.rank)]
        size = sum(plan.bytes for plan in tensors.values())
        if size > _LARGE and any(key.endswith(".diff") for key in tensors):
            return [f"whole differences take {size / 1e9:.1f} GB; --full svd takes little, --dtype bf16 half of fp32"]
        return []


@attrs.frozen(kw_only=True, eq=False)
class _Module:
    """What is written of a module: its update as it is, as a whole difference, or approximated."""

    name: str
    tensors: Mapping[str, Planned]
    dtype: torch.dtype | None
    low_rank: LowRank | None = None
    loss: float | None = None
    whole: bool = False

    def intended(self, source: Source) -> Intended:
        """Return what a host shall read."""
        if self.whole:
            return Intended(Full(name=self.name, difference=difference(source, self.name)), self.dtype)
        return Intended(self.low_rank or source.update(self.name), self.dtype)


def difference(source: Source, name: str) -> Tensor:
    """Return a module's difference [out, in], in float64."""
    return source.update(name).map(torch.Tensor.double).delta(source.weight(name))


def _portable(update: Update) -> dict[str, Tensor]:
    """Return a module's tensors; no alpha where versions of ComfyUI would divide it by zero."""
    tensors = module_tensors(update)
    if isinstance(update, Kronecker) and update.whole and len(update.second) < len(update.first):
        raise ExportError(
            f"{update.name!r} has a first factor with more rows than the second, which versions of ComfyUI read "
            "differently; --target lora makes a plain LoRA of it"
        )
    return tensors


def _planned(module: str, tensors: Mapping[str, Tensor]) -> dict[str, Planned]:
    return {
        f"{module}.{part}": planned(tensor.dtype, tuple(tensor.shape), lambda tensor=tensor: tensor)  # type: ignore[misc]
        for part, tensor in tensors.items()
    }


def _weight_shape(source: Source, name: str, target: str) -> tuple[int, ...]:
    """Return the shape of a module's weight, a kernel's with all its dimensions."""
    if source.base is None and source.parts[name].get("difference"):
        return source.parts[name]["difference"].shape
    return source.model(target).tensors[name].shape
