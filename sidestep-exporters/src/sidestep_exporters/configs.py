"""What each target holds and what can be set about it. No torch here: commands build their options from these."""

from __future__ import annotations

from typing import Literal

from sidestep_core.options import config, option
from sidestep_core.targets import MAX_RANK

EVERYTHING = frozenset({"lora", "dora", "oft", "lokr", "loha", "full"})
NATIVE = EVERYTHING - {"full"}
DIFFUSERS = frozenset({"lora", "dora"})
INSTEAD = "--target lora makes a plain LoRA of any adapter"


@config
class LoraExportConfig:
    """Settings of the plain LoRA."""

    rank: int = option(
        default=64, short="-r", at_least=1, at_most=MAX_RANK, help="Width of the low-rank update that is written."
    )


@config
class ComfyuiConfig(LoraExportConfig):
    """Settings of the file for ComfyUI."""

    prefix: str = option(
        default="native",
        help="What stands before a module's name: native, as ACE-Step and LyCORIS name it; generic, as ComfyUI names "
        "its own; or a text.",
    )
    full: Literal["diff", "svd"] = option(
        default="diff",
        help="How updates are written that depend on the model's weights (DoRA, OFT): as whole differences, which is "
        "exact and large, or as low-rank approximations of --rank.",
    )


@config
class MergedConfig:
    """Settings of the merged model."""

    shard_size: float = option(default=5.0, above=0, help="Largest size of a weight file in GB.")
