"""Registers the adapter types of this package."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.specs import AdapterType

from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.kept import kept_by_dora, kept_by_loha, kept_by_lokr, kept_by_lora, kept_by_oft
from sidestep_adapters.sizes import count_dora, count_loha, count_lokr, count_lora, count_oft, mapped_blocks

sidestep_api = 1


@hookimpl
def sidestep_adapters() -> list[AdapterType]:
    """Offer LoRA and its relatives."""
    return [
        AdapterType(
            name="lora",
            summary="Low-rank update of the attention and MLP projections",
            target="sidestep_adapters.lora:LoraAdapter",
            config=LoraConfig,
            needs=("peft",),
            format="peft",
            count=count_lora,
            keeps=kept_by_lora,
        ),
        AdapterType(
            name="dora",
            summary="Low-rank update with a trained magnitude for each output",
            target="sidestep_adapters.dora:DoraAdapter",
            config=DoraConfig,
            needs=("peft",),
            format="peft",
            count=count_dora,
            keeps=kept_by_dora,
        ),
        AdapterType(
            name="lokr",
            summary="Kronecker product of two small matrices: fewest parameters",
            target="sidestep_adapters.lokr:LokrAdapter",
            config=LokrConfig,
            needs=("lycoris-lora",),
            format="lycoris",
            count=count_lokr,
            keeps=kept_by_lokr,
        ),
        AdapterType(
            name="loha",
            summary="Element-wise product of two low-rank updates: high rank from few parameters",
            target="sidestep_adapters.loha:LohaAdapter",
            config=LohaConfig,
            needs=("lycoris-lora",),
            format="lycoris",
            count=count_loha,
            keeps=kept_by_loha,
        ),
        AdapterType(
            name="oft",
            summary="Rotation of each projection's inputs in blocks",
            target="sidestep_adapters.oft:OftAdapter",
            config=OftConfig,
            needs=("peft",),
            format="peft",
            count=count_oft,
            keeps=kept_by_oft,
            sizes=mapped_blocks,
        ),
    ]
