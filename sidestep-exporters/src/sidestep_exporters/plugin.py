"""Registers the exporters of this package."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.specs import ExporterType

sidestep_api = 1


@hookimpl
def sidestep_exporters() -> list[ExporterType]:
    """Offer the PEFT folder that ACE-Step loads and the file that diffusers loads."""
    return [
        ExporterType(
            name="native",
            summary="PEFT folder in the original names, for ACE-Step 1.5 itself and ComfyUI",
            target="sidestep_exporters.native:NativeExporter",
            needs=("peft",),
        ),
        ExporterType(
            name="diffusers",
            summary="One file for AceStepPipeline.load_lora_weights",
            target="sidestep_exporters.diffusers:DiffusersExporter",
            needs=("peft", "diffusers"),
        ),
    ]
