"""`diffusers`: the file that `AceStepPipeline.load_lora_weights` loads, whatever projections it adapts."""

from __future__ import annotations

from pathlib import Path

import diffusers
from diffusers.loaders import AceStepLoraLoaderMixin, PeftAdapterMixin
from sidestep_core.formats.keys import DIFFUSERS_PREFIX
from sidestep_core.formats.peft_files import diffusers_metadata, lora_tensors
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.model.names import module_path
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import tensor_bytes
from torch import nn

from sidestep_exporters.configs import DIFFUSERS, INSTEAD
from sidestep_exporters.frame import Made, export
from sidestep_exporters.layouts import header
from sidestep_exporters.peft_host import ADAPTER, PeftHost
from sidestep_exporters.proof import prove, skeleton
from sidestep_exporters.source import Source

READER = f"diffusers {diffusers.__version__}"
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"


class DiffusersExporter:
    """Writes the file and lets diffusers read it back."""

    name, accepts, instead, beside = "diffusers", DIFFUSERS, INSTEAD, False

    def __init__(self, config: None, context: BuildContext) -> None:
        pass

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-diffusers/pytorch_lora_weights.safetensors`, or the file or folder that was asked for.

        Raises:
            AdapterError: the adapter's files are damaged, or it does not fit the model.
            ExportError: it is neither LoRA nor DoRA.
            ProofError: it does not read back as trained; no file is left.
        """
        return export(self, request)

    def file(self, source: Source, adapter: str) -> str:
        """Return the name that diffusers looks for in a folder."""
        source.one_kind(self.name)
        return WEIGHTS_NAME

    def make(self, source: Source, file: str) -> Made:
        """Return the file: the updates under diffusers' names, with the settings it reads."""
        updates = [source.update(name).folded(source.dtype) for name in source.parts]
        tensors = {
            f"{DIFFUSERS_PREFIX}{module_path(update.name)}.{part}": tensor
            for update in updates
            for part, tensor in lora_tensors(update).items()
        }
        metadata = {**header(source, self.name, updates), **diffusers_metadata(updates)}
        return Made(
            files={file: tensor_bytes(tensors, metadata)},
            prove=lambda folder: prove(
                source, source.intended, READER, lambda: read_with_diffusers(source, folder / file)
            ),
            reader=READER,
        )


def read_with_diffusers(source: Source, file: Path) -> PeftHost:
    """Let `load_lora_weights` read a file on a transformer's module tree."""
    shapes = {module_path(projection): shape for projection, shape in source.tree().items()}
    pipeline = _Pipeline(skeleton(_Transformer(), shapes))
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=ADAPTER, low_cpu_mem_usage=True)
    return PeftHost(pipeline.transformer, file)


class _Transformer(nn.Module, PeftAdapterMixin):  # type: ignore[misc]
    """A module tree that diffusers can put adapters on."""


class _Pipeline(AceStepLoraLoaderMixin):  # type: ignore[misc]
    """As much of AceStepPipeline as its adapter loader looks at."""

    def __init__(self, transformer: nn.Module) -> None:
        self.transformer = transformer
        self.hf_device_map: dict[str, str] = {}  # nothing is offloaded
