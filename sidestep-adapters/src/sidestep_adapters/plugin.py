"""Registers the adapter types of this package."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.specs import AdapterType

from sidestep_adapters.configs import LoraConfig, count_lora

sidestep_api = 1


@hookimpl
def sidestep_adapters() -> list[AdapterType]:
    """Offer LoRA."""
    return [
        AdapterType(
            name="lora",
            summary="Low-rank update of the attention and MLP projections",
            target="sidestep_adapters.lora:LoraAdapter",
            config=LoraConfig,
            needs=("peft",),
            format="peft",
            count=count_lora,
        )
    ]
