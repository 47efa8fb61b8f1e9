"""How likely each reading is: a weighted sum of its measures, set against the other readings' sums."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np
from sidestep_core.interfaces import Confidence

from sidestep_captioners.analysis.onsets import Array

Weights = Mapping[str, float]


def load_weights() -> dict[str, Weights]:
    """Return the weights of measures for "rhythm" and "key", as `benchmarks/fit.py` found them."""
    text = files("sidestep_captioners.analysis").joinpath("weights.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def probabilities(measures: Sequence[Mapping[str, float]], weights: Weights) -> Array:
    """Return how likely each reading is among these: the softmax of their weighted sums."""
    sums = np.array([sum(weights.get(name, 0.0) * value for name, value in row.items()) for row in measures])
    odds = np.exp(sums - sums.max())
    return odds / odds.sum()  # type: ignore[no-any-return]


def confidence(probability: float, limits: tuple[float, float]) -> Confidence:
    """Return the level of a probability, given where "medium" and "high" begin."""
    medium, high = limits
    return "high" if probability >= high else "medium" if probability >= medium else "low"
