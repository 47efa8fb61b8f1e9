"""`native`: the PEFT folder that ACE-Step 1.5's own application loads, as it is also for ComfyUI."""

from __future__ import annotations

import functools
from pathlib import Path

import peft
from sidestep_core.adapter_writing import peft_files
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.specs import BuildContext
from torch import nn

from sidestep_exporters.proof import ADAPTER, prove, skeleton, write_proven
from sidestep_exporters.source import Source, open_source, output_path

READER = f"peft {peft.__version__} on the original names"
_DIFFUSERS_NOTE = "diffusers ignores original names without a q_proj or k_proj among them; export --target diffusers"


class NativeExporter:
    """Writes the folder and lets peft read it back."""

    def __init__(self, config: None, context: BuildContext) -> None:
        pass

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-native`, or the folder that was asked for.

        Raises:
            AdapterError: the adapter's files are damaged.
            ExportError: it is not a LoRA in PEFT's format, or does not fit the model.
            ProofError: it does not read back as trained; no file is left.
        """
        source = open_source(request, "native")
        folder = output_path(request, "native")
        proof = functools.partial(prove_folder, source) if request.verify else None
        error = write_proven(folder, peft_files(source.modules, source.saved.metadata), proof)
        seen = any(name in module.name for module in source.modules for name in ("q_proj", "k_proj"))
        return ExportReport(
            paths=(folder,),
            modules=len(source.modules),
            error=error,
            reader=READER if request.verify else "",
            notes=() if seen else (_DIFFUSERS_NOTE,),
        )


def prove_folder(source: Source, folder: Path) -> float:
    """Return the largest relative difference after `PeftModel.from_pretrained` on a decoder's module tree."""

    def load() -> nn.Module:
        tree = skeleton(nn.Module(), source.projections)
        return peft.PeftModel.from_pretrained(  # type: ignore[no-any-return]
            tree, str(folder), ADAPTER, low_cpu_mem_usage=True, torch_device="cpu"
        )

    return prove(source, READER, load)
