"""How sure the ranking is: the standard error of each projection's share of the gradient. Light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

# a rank follows the square root of the score: 10 per cent of that are 5 of the rank, less than half its step of 8
TOLERANCE = 0.1


class Certainty:
    """Follows the scores of one song after the other.

    Songs differ most in how large all their gradients are, which moves no projection in the ranking. What counts is a
    projection's score as a multiple of the mean of all, and its error is that of a ratio of two sums over songs.
    """

    def __init__(self, modules: int) -> None:
        self._songs = 0
        self._sums = [0.0] * modules
        self._squares = [0.0] * modules
        self._products = [0.0] * modules
        self._mean_sum = self._mean_squares = 0.0

    def add(self, scores: Sequence[float]) -> None:
        """Take note of one song's scores, one for each projection."""
        mean = math.fsum(scores) / len(scores)
        self._songs += 1
        self._mean_sum += mean
        self._mean_squares += mean * mean
        for i, score in enumerate(scores):
            self._sums[i] += score
            self._squares[i] += score * score
            self._products[i] += score * mean

    @property
    def error(self) -> float:
        """Relative standard error of a projection's share: the median of all whose gradient is not zero."""
        if self._songs < 2 or not self._mean_sum:
            return math.inf
        return median(self._error(i) for i, total in enumerate(self._sums) if total)

    def _error(self, i: int) -> float:
        ratio = self._sums[i] / self._mean_sum
        squares = self._squares[i] - 2 * ratio * self._products[i] + ratio * ratio * self._mean_squares
        variance = max(squares, 0.0) / (self._songs - 1)
        return math.sqrt(variance * self._songs) / self._sums[i]


class Patience:
    """Tells when a run may end: the ranking was settled for some songs in a row."""

    def __init__(self, modules: int, patience: int) -> None:
        self.certainty = Certainty(modules)
        self._patience, self._settled = patience, 0

    def add(self, scores: Sequence[float]) -> bool:
        """Take note of one song's scores; return whether the run may end."""
        self.certainty.add(scores)
        self._settled = self._settled + 1 if self.certainty.error <= TOLERANCE else 0
        return self._settled >= self._patience
