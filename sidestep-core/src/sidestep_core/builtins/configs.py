"""Settings of the core's own components."""

from __future__ import annotations

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
class CosineConfig:
    """Settings of the cosine schedule."""

    cosine_eta_min_ratio: float = option(
        default=0.01, at_least=0, at_most=1, advanced=True, help="Share of the peak rate that is left at the end."
    )


@config
class AdamWConfig:
    """Settings of AdamW."""

    weight_decay: float = option(default=0.01, at_least=0, help="Decay of the adapter's weights towards zero.")
