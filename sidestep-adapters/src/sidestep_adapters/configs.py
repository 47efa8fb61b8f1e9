"""Settings of the adapter types and what they cost. No torch here: commands build their options from these."""

from __future__ import annotations

from sidestep_core.options import config, option


@config
class LoraConfig:
    """Settings of LoRA."""

    rank: int = option(default=64, short="-r", at_least=1, at_most=1024, help="Width of the two low-rank matrices.")
    alpha: int = option(default=128, at_least=1, help="Scale of the update: it is multiplied by alpha / rank.")
    dropout: float = option(
        default=0.1, at_least=0, below=1, help="Share of the adapter's inputs set to zero in training."
    )


def count_lora(config: LoraConfig, out_features: int, in_features: int, rank: int | None) -> int:
    """Return the trainable parameters of one projection; `rank` is its own where it differs from the adapter's."""
    return (rank or config.rank) * (out_features + in_features)
