"""Which major and minor triads sound, one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from sidestep_captioners.analysis.onsets import Array

Triads = NDArray[np.int64]

_SMOOTH = 5  # frames, about half a second
_CHANGE = 1.0  # a change of chord must fit better by this much, summed over the frames that follow
_STEPS = ((0, 4, 7), (0, 3, 7))  # major, minor


def find_triads(classes: Array) -> Triads:
    """Return the triad of each frame of pitch classes [frames, 12]: twice its root from C on, plus 1 if it is minor.

    It is the sequence that fits best when each change costs something (Viterbi's algorithm).
    """
    fits = uniform_filter1d(_unit(classes) @ _unit(triad_classes()).T, _SMOOTH, axis=0, mode="nearest")
    came_from = np.empty(fits.shape, dtype=np.int64)
    total, same = np.zeros(fits.shape[1]), np.arange(fits.shape[1])
    for frame, fit in enumerate(fits):
        best = int(total.argmax())
        stays = total >= total[best] - _CHANGE
        came_from[frame] = np.where(stays, same, best)
        total = np.where(stays, total, total[best] - _CHANGE) + fit
    path = [int(total.argmax())]
    for row in came_from[:0:-1]:
        path.append(int(row[path[-1]]))
    return np.array(path[::-1])


def triad_classes() -> Array:
    """Return the pitch classes of the 24 triads [24, 12], 1 where a triad has one."""
    found = np.zeros((24, 12))
    for triad, row in enumerate(found):
        row[[(triad // 2 + step) % 12 for step in _STEPS[triad % 2]]] = 1
    return found


def _unit(rows: Array) -> Array:
    """Return rows without their mean and of length 1, so that their products are correlations."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)  # type: ignore[no-any-return]
