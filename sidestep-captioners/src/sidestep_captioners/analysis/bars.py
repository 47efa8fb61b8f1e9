"""What beats tell about bars: how alike beats are at a distance, what happens inside them, where chords change."""

from __future__ import annotations

import attrs
import numpy as np
from scipy.ndimage import uniform_filter1d

from sidestep_captioners.analysis.beats import Frames
from sidestep_captioners.analysis.onsets import FPS, RATE, Array
from sidestep_captioners.analysis.pitches import HOP, Pitches

_STEPS = 24  # places inside a beat
_CELLS = 6  # cells of a beat that are compared
_LAGS = 25
_NOTHING = 1e-3


@attrs.frozen
class BeatView:
    """A song as its beats, at one tempo.

    Attributes:
        alike: similarity of beats at the distances 0 to 24, from -1 to 1; 0 where the song is too short for one.
        harmony: the same of the pitches that sound.
        inside: onset strength at the 24 places inside the beat, of a sum of 1.
        low: onset strength below 200 Hz at each beat.
        change: how much the pitches change at each beat, 0 to 1.
    """

    alike: Array
    harmony: Array
    inside: Array
    low: Array
    change: Array

    def at(self, place: float) -> float:
        """Return the onset strength at a place inside the beat, 0 to 1, and a little around it."""
        middle = round(place * _STEPS)
        return float(max(self.inside[(middle + d) % _STEPS] for d in (-1, 0, 1)))


def view_beats(bands: Array, pitches: Pitches, beats: Frames) -> BeatView:
    """Return what the beats of a song show; there must be at least two."""
    length = np.diff(beats)[:, None]
    places = beats[:-1, None] + length * np.arange(_STEPS) / _STEPS
    frames = np.arange(bands.shape[1])
    smooth = [np.interp(places, frames, uniform_filter1d(band, 3)) for band in bands[1:]]
    inner = np.stack(smooth, axis=1)  # [beats, 3, 24]
    cells = inner.reshape(len(inner), 3, _CELLS, -1).sum(axis=3).reshape(len(inner), -1)
    sounding = _means(pitches.chords, beats)
    inside = inner.sum(axis=1).mean(axis=0)
    return BeatView(
        alike=_similarity(cells),
        harmony=_similarity(sounding),
        inside=inside / (inside.sum() + 1e-9),
        low=inner[:, 0, :2].max(axis=1),
        change=_changes(sounding),
    )


def contrast(values: Array, period: int) -> float:
    """Return by how many standard deviations the best phase of a period stands out from the mean."""
    if len(values) < 2 * period:
        return 0.0
    phases = [values[phase::period].mean() for phase in range(period)]
    return float((max(phases) - values.mean()) / (values.std() + 1e-9))


def ratio(strong: float, weak: float) -> float:
    """Return the logarithm of one strength over another; small ones count as nothing."""
    return float(np.log((strong + _NOTHING) / (weak + _NOTHING)))


def peak_contrast(alike: Array, period: int) -> float:
    """Return how much more alike beats are at a period than one beat before and after it."""
    return float(alike[period] - (alike[period - 1] + alike[period + 1]) / 2)


def lag_contrast(alike: Array, period: int) -> float:
    """Return how much more alike beats are at multiples of a period than at other distances."""
    lags = np.arange(1, min(4 * period + 1, _LAGS))
    on = lags % period == 0
    return float(alike[lags[on]].mean() - alike[lags[~on]].mean())


def _similarity(rows: Array) -> Array:
    rows = rows - rows.mean(axis=0)
    rows = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
    count = len(rows)
    found = np.zeros(_LAGS)
    for lag in range(min(_LAGS, count - 4)):
        found[lag] = np.einsum("ij,ij->i", rows[lag:], rows[: count - lag]).mean()
    return found


def _means(classes: Array, beats: Frames) -> Array:
    """Return the mean pitch classes of each beat [beats - 1, 12]."""
    sums = np.concatenate([np.zeros((1, 12)), np.cumsum(classes, axis=0)])
    edges = beats * (RATE / FPS / HOP)
    steps = np.arange(len(sums))
    at = np.stack([np.interp(edges, steps, column) for column in sums.T], axis=1)
    return np.diff(at, axis=0) / np.maximum(np.diff(edges), 1e-9)[:, None]


def _changes(sounding: Array) -> Array:
    unit = sounding / (np.linalg.norm(sounding, axis=1, keepdims=True) + 1e-9)
    return np.concatenate([[0.0], 1 - np.einsum("ij,ij->i", unit[1:], unit[:-1])])
