"""Ranks that follow from scores, as the settings ask for them: around a base rank, or within a budget. Light."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.ranks import ALPHA, assign_ranks, base_for_budget, weigh
from sidestep_core.errors import ConfigError
from sidestep_core.model.dims import ModelDims, projection_shapes
from sidestep_core.specs import AdapterType
from sidestep_core.targets import Target


@attrs.frozen(kw_only=True)
class Fitted:
    """Ranks of the projections that get one, the base they are around, and what they train (None if not known)."""

    base: int
    ranks: Mapping[str, int]
    trainable: int | None


def fit_ranks(
    config: AnalyzeConfig,
    adapter: AdapterType,
    dims: ModelDims,
    scores: Mapping[str, float],
    effective: Mapping[str, int],
) -> Fitted:
    """Return the ranks that the settings ask for.

    Raises:
        ConfigError: no ranks fit into the budget, or the adapter type cannot tell how much it trains.
    """
    shapes = projection_shapes(dims)
    settings = adapter.config() if adapter.config else None
    weights = weigh(scores, effective)
    counted: dict[tuple[int, int, int | None], int] = {}

    def ranks_of(base: int) -> dict[str, int]:
        return assign_ranks(weights, base=base, low=config.rank_min, high=config.rank_max)

    def count(ranks: Mapping[str, int]) -> int:
        assert adapter.count is not None
        total = 0
        for target in adapter.fit(settings, [_target(name, shapes[name], rank) for name, rank in ranks.items()]):
            size = (target.out_features, target.in_features, target.rank)
            if size not in counted:
                counted[size] = adapter.count(settings, *size)
            total += counted[size]
        return total

    if config.budget is None:
        ranks = ranks_of(config.rank)
        return Fitted(base=config.rank, ranks=ranks, trainable=count(ranks) if adapter.count else None)
    if adapter.count is None:
        raise ConfigError(f"--budget: adapter type {adapter.name!r} cannot tell how many parameters it trains")
    base = base_for_budget(config.budget, ranks_of, count)
    ranks = ranks_of(base)
    return Fitted(base=base, ranks=ranks, trainable=count(ranks))


def _target(name: str, shape: tuple[int, int], rank: int) -> Target:
    return Target(name=name, out_features=shape[0], in_features=shape[1], rank=rank, alpha=ALPHA * rank)
