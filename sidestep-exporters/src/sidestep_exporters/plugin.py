"""Registers the exporters of this package."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.specs import ExporterType

from sidestep_exporters.configs import (
    DIFFUSERS,
    EVERYTHING,
    INSTEAD,
    NATIVE,
    ComfyuiConfig,
    LoraExportConfig,
    MergedConfig,
)

sidestep_api = 1


@hookimpl
def sidestep_exporters() -> list[ExporterType]:
    """Offer what ACE-Step, ComfyUI and diffusers load, a plain LoRA of any adapter, and a merged model."""
    return [
        ExporterType(
            name="native",
            summary="What ACE-Step 1.5 itself loads: a PEFT folder, or a LyCORIS file",
            target="sidestep_exporters.native:NativeExporter",
            needs=("peft", "lycoris-lora"),
            accepts=NATIVE,
            instead=INSTEAD,
        ),
        ExporterType(
            name="comfyui",
            summary="One file for ComfyUI's ACE-Step 1.5 loader",
            target="sidestep_exporters.comfyui:ComfyuiExporter",
            config=ComfyuiConfig,
            accepts=EVERYTHING,
        ),
        ExporterType(
            name="diffusers",
            summary="One file for AceStepPipeline.load_lora_weights",
            target="sidestep_exporters.diffusers:DiffusersExporter",
            needs=("peft", "diffusers"),
            accepts=DIFFUSERS,
            instead=INSTEAD,
        ),
        ExporterType(
            name="lora",
            summary="A plain LoRA of any adapter, approximated where it must be",
            target="sidestep_exporters.lora:LoraExporter",
            config=LoraExportConfig,
            needs=("peft", "lycoris-lora"),
            accepts=EVERYTHING,
        ),
        ExporterType(
            name="merged",
            summary="The whole model with the adapter added to its weights",
            target="sidestep_exporters.merged:MergedExporter",
            config=MergedConfig,
            accepts=EVERYTHING,
        ),
    ]
