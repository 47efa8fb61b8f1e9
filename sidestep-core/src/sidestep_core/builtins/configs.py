"""Settings of the core's own components."""

from __future__ import annotations

from pathlib import Path

from sidestep_core.builtins.formula import TEMPLATES, Formula
from sidestep_core.options import config, option


@config
class ContinuousConfig:
    """Settings of the continuous timestep sampler."""

    timestep_mu: float | None = option(
        default=None, advanced=True, help="Mean of the normal draws; the checkpoint's own when not given."
    )
    timestep_sigma: float | None = option(
        default=None, above=0, advanced=True, help="Deviation of the normal draws; the checkpoint's own when not given."
    )


@config
class AdaptiveConfig(ContinuousConfig):
    """Settings of the adaptive timestep sampler."""

    adaptive_timestep_ratio: float = option(
        default=0.3, at_least=0, at_most=1, help="Share of the draws that goes where the loss is; the rest as usual."
    )


@config
class CosineConfig:
    """Settings of the cosine schedule."""

    cosine_eta_min_ratio: float = option(
        default=0.01, at_least=0, at_most=1, advanced=True, help="Share of the peak rate that is left at the end."
    )


@config
class CosineRestartsConfig(CosineConfig):
    """Settings of the cosine schedule with restarts."""

    cosine_restarts_count: int = option(default=4, at_least=1, advanced=True, help="Falls from the peak in one run.")


@config
class CustomConfig:
    """Settings of the schedule with a formula of one's own."""

    scheduler_formula: str = option(
        default="",
        help="The learning rate as a formula of step, total_steps, progress (0 to 1), epoch, total_epochs, "
        "steps_per_epoch and base_lr, all from the end of the warm-up on, with + - * / // % **, comparisons, "
        "'a if b else c', cos, sin, exp, log, sqrt, pow, min, max, abs, clamp, pi and e; "
        f"or the name of one: {', '.join(TEMPLATES)}.",
    )

    def __attrs_post_init__(self) -> None:
        if self.scheduler_formula:
            Formula(self.scheduler_formula)


@config
class CruiseConfig:
    """Settings of cruise control."""

    target_loss: float | None = option(
        default=None, at_least=0, help="Loss to stay at: near it the learning rate is lowered; 0 leaves it alone."
    )
    target_loss_floor: float = option(
        default=0.01, above=0, at_most=1, advanced=True, help="Share of the learning rate that is left at the target."
    )
    target_loss_warmup: int = option(
        default=50, at_least=0, advanced=True, help="Steps before it begins; not before the warm-up has ended."
    )
    target_loss_smoothing: float = option(
        default=0.98, above=0, below=1, advanced=True, help="Share of the averaged loss that is kept at each step."
    )


@config
class WeightDecayConfig:
    """Settings of optimizers that take a weight decay."""

    weight_decay: float = option(default=0.01, at_least=0, help="Decay of the adapter's weights towards zero.")


@config
class TensorBoardConfig:
    """Settings of the TensorBoard observer."""

    log_dir: Path | None = option(
        default=None,
        help="Folder that several runs share, each with a sub-folder named like its own; 'runs' in the run's folder "
        "when not given.",
    )
    log_heavy_every: int = option(
        default=50,
        at_least=0,
        help="Steps between gradient norms of single tensors, rounded up to whole reports; 0 leaves them out.",
    )
