"""Settings of the adapter types. No torch here: commands build their options from these."""

from __future__ import annotations

from typing import Literal

from sidestep_core.options import config, option
from sidestep_core.targets import MAX_RANK


@config
class LowRankConfig:
    """What LoRA and DoRA have in common."""

    rank: int = option(default=64, short="-r", at_least=1, at_most=MAX_RANK, help="Width of the two low-rank matrices.")
    alpha: int = option(default=128, at_least=1, help="Scale of the update: it is multiplied by alpha / rank.")
    dropout: float = option(
        default=0.1, at_least=0, below=1, help="Share of the adapter's inputs set to zero in training."
    )
    use_rslora: bool = option(
        default=False, help="Scale by alpha / sqrt(rank), which keeps high ranks as lively as low ones."
    )
    loraplus_lr_ratio: float = option(
        default=1.0, above=0, help="Learning rate of B as a multiple of the run's; LoRA+ recommends 16."
    )
    bias: Literal["none", "all", "lora_only"] = option(
        default="none",
        advanced=True,
        help="Accepted for old command lines and changes nothing: the adapted projections have no biases.",
    )


@config
class LoraConfig(LowRankConfig):
    """Settings of LoRA."""

    init_weights: Literal["kaiming", "pissa"] = option(
        default="kaiming",
        help="Start of A and B: a random A and no update, or pissa, the largest components of the weight itself. "
        "Files written after pissa have twice the rank.",
    )


@config
class DoraConfig(LowRankConfig):
    """Settings of DoRA."""


@config
class LokrConfig:
    """Settings of LoKR."""

    rank: int = option(
        default=64,
        flag="--lokr-linear-dim",
        at_least=1,
        at_most=MAX_RANK,
        help="Width into which a factor is split; one that is not larger than twice this stays whole.",
    )
    alpha: int = option(
        default=128,
        flag="--lokr-linear-alpha",
        at_least=1,
        help="Scale of the update: it is multiplied by alpha / rank, unless both factors are whole.",
    )
    factor: int = option(
        default=-1,
        flag="--lokr-factor",
        at_least=-1,
        help="Size that the first factor should have; -1 makes both factors about equally large.",
    )
    decompose_both: bool = option(
        default=False, flag="--lokr-decompose-both", help="Split the first factor too if the rank is small enough."
    )
    use_tucker: bool = option(
        default=False,
        flag="--lokr-use-tucker",
        advanced=True,
        help="Accepted for old command lines and changes nothing: it is for convolutions.",
    )
    use_scalar: bool = option(
        default=False,
        flag="--lokr-use-scalar",
        help="Train one number more for each projection, which multiplies its update and starts at zero.",
    )
    weight_decompose: bool = option(
        default=False,
        flag="--lokr-weight-decompose",
        help="Train the length of each row of the weight apart from its direction, as DoRA does.",
    )
    full_matrix: bool = option(
        default=False, flag="--lokr-full-matrix", advanced=True, help="Split neither factor, whatever the rank."
    )
    rs_lora: bool = option(
        default=False, flag="--lokr-rs-lora", advanced=True, help="Scale by alpha / sqrt(rank) instead of alpha / rank."
    )
    unbalanced_factorization: bool = option(
        default=False,
        flag="--lokr-unbalanced-factorization",
        advanced=True,
        help="Give the first factor the larger share of the rows. LyCORIS cannot load the files back by itself.",
    )

    def __attrs_post_init__(self) -> None:
        if self.factor == 0:
            raise ValueError("factor must be -1 or at least 1")


@config
class LohaConfig:
    """Settings of LoHA."""

    rank: int = option(
        default=64,
        flag="--loha-linear-dim",
        at_least=1,
        at_most=MAX_RANK,
        help="Width of the two low-rank products whose elements are multiplied.",
    )
    alpha: int = option(
        default=128,
        flag="--loha-linear-alpha",
        at_least=1,
        help="Scale of the update: it is multiplied by alpha / rank.",
    )
    factor: int = option(
        default=-1,
        flag="--loha-factor",
        advanced=True,
        help="Accepted for old command lines and changes nothing: LoHA has no such factor.",
    )
    use_tucker: bool = option(
        default=False,
        flag="--loha-use-tucker",
        advanced=True,
        help="Accepted for old command lines and changes nothing: it is for convolutions.",
    )
    use_scalar: bool = option(
        default=False,
        flag="--loha-use-scalar",
        help="Train one number more for each projection, which multiplies its update and starts at zero.",
    )
    rs_lora: bool = option(
        default=False, flag="--loha-rs-lora", advanced=True, help="Scale by alpha / sqrt(rank) instead of alpha / rank."
    )


@config
class OftConfig:
    """Settings of OFT."""

    block_size: int = option(
        default=64,
        flag="--oft-block-size",
        at_least=2,
        at_most=MAX_RANK,
        help="Inputs that are rotated together, as far as they divide a projection's inputs; "
        "--module-ranks gives single projections another.",
    )
    coft: bool = option(default=False, flag="--oft-coft", help="Keep the rotations within --oft-eps of none.")
    eps: float = option(default=6e-5, flag="--oft-eps", above=0, help="How far --oft-coft lets the rotations go.")
