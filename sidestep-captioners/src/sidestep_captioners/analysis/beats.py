"""Where the beats are, at a given tempo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sidestep_captioners.analysis.onsets import FPS, Array

Frames = NDArray[np.int64]

_TIGHTNESS = 100.0  # cost of leaving the tempo


def track_beats(bands: Array, bpm: float) -> Frames:
    """Return the frames of the beats: the path over onsets that best keeps to the tempo (Ellis 2007)."""
    onsets = bands[0] + 0.5 * bands[1]
    period = 60 * FPS / bpm
    near = np.arange(-int(period), int(period) + 1)
    local = np.convolve(onsets / (onsets.std() + 1e-9), np.exp(-0.5 * (near * 32 / period) ** 2), "same")
    gaps = np.arange(round(period / 2), round(2 * period))
    total, back = _best_paths(local, gaps, -_TIGHTNESS * np.log(gaps / period) ** 2)
    tail = max(len(local) - 1 - int(period), 0)
    beat = tail + int(np.argmax(total[tail:]))
    beats = []
    while beat >= 0:
        beats.append(beat)
        beat = int(back[beat])
    return np.array(beats[::-1])


def fitted_bpm(beats: Frames, bpm: float) -> float:
    """Return the tempo that the beats come to: their regression where it agrees with the given one, else that."""
    if len(beats) < 5:
        return bpm
    fitted = 60 * FPS / float(np.polyfit(np.arange(len(beats)), beats, 1)[0])
    return fitted if abs(fitted / bpm - 1) < 0.02 else bpm


def _best_paths(local: Array, gaps: Frames, cost: Array) -> tuple[Array, Frames]:
    """Return for each frame the score of the best path of beats that ends there, and the beat before it or -1.

    Frames closer together than the shortest gap cannot follow each other, so that many are worked out at a time.
    """
    longest, block = int(gaps[-1]), int(gaps[0])
    total = np.concatenate([np.full(longest, -np.inf), local])
    back = np.full(len(local), -1)
    for start in range(0, len(local), block):
        ends = np.arange(start, min(start + block, len(local)))
        scores = total[ends[:, None] - gaps + longest] + cost
        best = np.argmax(scores, axis=1)
        score = scores[np.arange(len(ends)), best]
        follows = score > 0
        back[ends] = np.where(follows, ends - gaps[best], -1)
        total[ends + longest] += np.where(follows, score, 0)
    return total[longest:], back
