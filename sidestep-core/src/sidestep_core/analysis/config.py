"""Settings of the analysis. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sidestep_core.options import config, option
from sidestep_core.targets import MAX_RANK

# what --timestep-focus calls a range of noise levels; balanced is the distribution that training draws from
FOCUSES: Mapping[str, tuple[float, float]] = {"balanced": (0.0, 1.0), "texture": (0.0, 0.4), "structure": (0.6, 1.0)}


def read_focus(text: str) -> tuple[float, float]:
    """Return the range of timesteps that a focus stands for.

    Raises:
        ValueError: it is neither a name nor two numbers from 0 to 1.
    """
    if text in FOCUSES:
        return FOCUSES[text]
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 1:
        raise ValueError(f"timestep_focus must be {', '.join(FOCUSES)} or LOW,HIGH from 0 to 1, not {text!r}")
    return low, high


@config
class AnalyzeConfig:
    """How projections are measured and what ranks they get."""

    dataset_dir: tuple[Path, ...] = option(
        default=(), short="-d", help="Folder of tensors made by preprocess; several are analyzed together."
    )
    rank: int = option(
        default=64, short="-r", at_least=1, at_most=MAX_RANK, help="Rank of a projection of middling importance."
    )
    budget: int | None = option(
        default=None,
        at_least=1,
        help="Parameters that may be trained; takes the place of --rank, which is then as large as fits.",
    )
    adapter_type: str = option(
        default="lora", aliases=("--adapter",), help="Adapter type whose parameters --budget counts."
    )
    rank_min: int = option(default=16, at_least=1, at_most=MAX_RANK, help="Smallest rank of a projection.")
    rank_max: int = option(default=128, at_least=1, at_most=MAX_RANK, help="Largest rank of a projection.")
    timestep_focus: str = option(
        default="balanced",
        help="Noise levels that count: balanced as in training, texture (little noise), structure (much noise), "
        "or a range such as 0.2,0.6.",
    )
    runs: int | None = option(
        default=None,
        aliases=("--fisher-runs",),
        at_least=1,
        help="Runs over songs in another order or other songs; 3 when not given, 2 for ten songs or fewer.",
    )
    batches: int | None = option(
        default=None,
        aliases=("--fisher-batches",),
        at_least=1,
        help="Most songs in a run; when not given, all up to 50, and fewer than 8 are measured several times.",
    )
    convergence_patience: int = option(
        default=5, at_least=1, help="Batches in a row that must leave the ranking settled before a run ends early."
    )
    chunk_duration: float | None = option(
        default=None, at_least=10, help="Measure on windows of this many seconds instead of whole songs."
    )
    gradient_checkpointing: bool | None = option(
        default=None,
        advanced=True,
        help="Recompute layers in the backward pass to save memory; as few as memory forces when not given.",
    )
    output: Path | None = option(
        default=None,
        short="-o",
        help="File or folder for the rank map; fisher_map.json in the (first) tensor folder when not given.",
    )

    def __attrs_post_init__(self) -> None:
        if self.rank_min > self.rank_max:
            raise ValueError(f"rank_min ({self.rank_min}) must not be above rank_max ({self.rank_max})")
        read_focus(self.timestep_focus)
