"""`diffusers`: the file that `AceStepPipeline.load_lora_weights` loads, whatever projections it adapts."""

from __future__ import annotations

import functools
from pathlib import Path

import diffusers
from diffusers.loaders import AceStepLoraLoaderMixin, PeftAdapterMixin
from sidestep_core.adapter_writing import DIFFUSERS_PREFIX, diffusers_metadata
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.model.names import module_path
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import tensor_bytes
from torch import nn

from sidestep_exporters.proof import ADAPTER, prove, skeleton, write_proven
from sidestep_exporters.source import Source, open_source, output_path

READER = f"diffusers {diffusers.__version__}"
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"


class DiffusersExporter:
    """Writes the file and lets diffusers read it back."""

    def __init__(self, config: None, context: BuildContext) -> None:
        pass

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-diffusers/pytorch_lora_weights.safetensors`, or the file or folder that was asked for.

        Raises:
            AdapterError: the adapter's files are damaged.
            ExportError: it is not a LoRA in PEFT's format, or does not fit the model.
            ProofError: it does not read back as trained; no file is left.
        """
        source = open_source(request, "diffusers")
        output = output_path(request, "diffusers")
        file = output if output.suffix == ".safetensors" else output / WEIGHTS_NAME
        proof = functools.partial(prove_file, source, name=file.name) if request.verify else None
        error = write_proven(file.parent, {file.name: file_content(source)}, proof)
        return ExportReport(
            paths=(file,), modules=len(source.modules), error=error, reader=READER if request.verify else ""
        )


def file_content(source: Source) -> bytes:
    """Return the safetensors file: the updates under diffusers' names, with the settings it reads."""
    tensors = {
        f"{DIFFUSERS_PREFIX}{module_path(module.name)}.lora_{part}.weight": factor
        for module in source.modules
        for part, factor in (("A", module.down), ("B", module.up))
    }
    return tensor_bytes(tensors, {**source.saved.metadata, **diffusers_metadata(source.modules)})


def prove_file(source: Source, folder: Path, name: str) -> float:
    """Return the largest relative difference after `load_lora_weights` on a transformer's module tree."""

    def load() -> nn.Module:
        shapes = {module_path(projection): shape for projection, shape in source.projections.items()}
        pipeline = _Pipeline(skeleton(_Transformer(), shapes))
        pipeline.load_lora_weights(str(folder), weight_name=name, adapter_name=ADAPTER, low_cpu_mem_usage=True)
        return pipeline.transformer

    return prove(source, READER, load)


class _Transformer(nn.Module, PeftAdapterMixin):  # type: ignore[misc]
    """A module tree that diffusers can put adapters on."""


class _Pipeline(AceStepLoraLoaderMixin):  # type: ignore[misc]
    """As much of AceStepPipeline as its adapter loader looks at."""

    def __init__(self, transformer: nn.Module) -> None:
        self.transformer = transformer
        self.hf_device_map: dict[str, str] = {}  # nothing is offloaded
