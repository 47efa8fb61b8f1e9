"""From scores to ranks: which projections get an adapter, and how large. Light."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from sidestep_core.errors import ConfigError
from sidestep_core.targets import MAX_RANK

SHARE = 0.55  # of all projections that get a rank
FLOOR = 0.10  # of each category that gets one, whatever its scores
STEP = 8
ALPHA = 2  # alpha as a multiple of the rank
CATEGORIES = ("self_attn", "cross_attn", "mlp")


def weigh(scores: Mapping[str, float], effective: Mapping[str, int]) -> dict[str, float]:
    """Return how large the adapter of each chosen projection should be, where 1 is middling; the others are left out.

    It is the square root of how score and effective rank compare with the median of the chosen.

    Args:
        scores: mean squared gradient by name.
        effective: effective rank of the weight by name; not above 0 where it is not known.

    Returns:
        By name, the highest score first.
    """
    chosen = choose(scores)
    middle = median(scores[name] for name in chosen) if chosen else 0.0
    known = [effective[name] for name in chosen if effective.get(name, 0) > 0]
    spectrum = median(known) if known else 1.0

    def weight(name: str) -> float:
        own = effective.get(name, 0)
        return float((scores[name] / middle * (own / spectrum if own > 0 else 1.0)) ** 0.5)

    return {name: weight(name) for name in chosen}


def assign_ranks(weights: Mapping[str, float], *, base: int, low: int, high: int) -> dict[str, int]:
    """Return the rank of each chosen projection: the base times its weight, in steps of 8, from `low` to `high`."""
    return {name: min(max(round_to_step(base * weight), low), high) for name, weight in weights.items()}


def choose(scores: Mapping[str, float]) -> list[str]:
    """Return the projections that get a rank, the highest score first.

    They are the first 55 per cent, and the best of each category until a tenth of it is among them. A projection whose
    gradient is zero whatever the song gets none: there is nothing for it to learn.
    """
    ranked = sorted((name for name, score in scores.items() if score > 0), key=lambda name: (-scores[name], name))
    chosen = set(ranked[: max(1, int(SHARE * len(scores)))])
    for category in CATEGORIES:
        members = [name for name in scores if category_of(name) == category]
        best = [name for name in ranked if category_of(name) == category]
        chosen.update(best[: max(1, int(FLOOR * len(members)))])
    return [name for name in ranked if name in chosen]


def category_of(name: str) -> str:
    """Return self_attn, cross_attn or mlp."""
    return next(category for category in CATEGORIES if category in name.split("."))


def round_to_step(value: float) -> int:
    """Return the nearest multiple of 8, of two equally near the one that is an even multiple."""
    return STEP * round(value / STEP)


def base_for_budget(
    budget: int, ranks_of: Callable[[int], Mapping[str, int]], count: Callable[[Mapping[str, int]], int]
) -> int:
    """Return the smallest base rank whose ranks train as many parameters as fit into a budget.

    Args:
        budget: parameters that may be trained.
        ranks_of: ranks that follow from a base rank.
        count: parameters trained with some ranks.

    Raises:
        ConfigError: even the smallest ranks take more.
    """
    counts = {base: count(ranks_of(base)) for base in _bases()}
    fitting = {base: number for base, number in counts.items() if number <= budget}
    if not fitting:
        raise ConfigError(
            f"--budget {budget}: the smallest ranks already train {min(counts.values()):,} parameters; "
            "raise the budget or lower --rank-min"
        )
    return max(fitting, key=lambda base: (fitting[base], -base))


def _bases() -> Sequence[int]:
    return range(1, MAX_RANK + 1)
