"""Which pitch classes sound: profiles from spectral peaks, with the song's tuning taken out."""

from __future__ import annotations

import attrs
import numpy as np
import scipy.signal
from numpy.typing import NDArray

from sidestep_captioners.analysis.onsets import RATE, Array, Samples, frames_of

HOP = 2048
_WINDOW = 8192
_BLOCK = 256  # frames transformed at a time
_FINE = 120  # histogram steps an octave
_PER_SEMITONE = _FINE // 12
_MIDDLE_C = 261.6256
_PEAKS = 60  # strongest peaks of a frame
CHORDS, BASS = (60.0, 1000.0), (38.0, 190.0)  # Hz


@attrs.frozen
class Pitches:
    """Strength of the pitch classes from C on in each frame, every `HOP` samples at `RATE`.

    Attributes:
        chords: [frames, 12] from 60 to 1000 Hz, the strongest of each frame 1, zeros where nothing sounds.
        bass: the same from 38 to 190 Hz.
        cents: how far the song is tuned from 440 Hz.
    """

    chords: Array
    bass: Array
    cents: float


def find_pitches(sound: Samples) -> Pitches:
    """Return the pitch classes of a sound at `RATE`."""
    fine = [np.zeros((0, _FINE)), np.zeros((0, _FINE))]
    frames, window = frames_of(sound, _WINDOW, HOP), scipy.signal.get_window("blackmanharris", _WINDOW)
    for start in range(0, len(frames), _BLOCK):
        spectrum = np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window, axis=1))
        for i, limits in enumerate((CHORDS, BASS)):
            fine[i] = np.concatenate([fine[i], _histograms(spectrum, limits)])
    turn = np.exp(2j * np.pi * np.arange(_FINE) / _PER_SEMITONE)
    offset = float(np.angle((fine[0].sum(axis=0) * turn).sum()) / (2 * np.pi)) * _PER_SEMITONE
    chords, bass = (_fold(histogram, offset) for histogram in fine)
    return Pitches(chords, bass, offset * 100 / _PER_SEMITONE)


def _histograms(spectrum: Array, limits: tuple[float, float]) -> Array:
    """Return [frames, 120]: the square roots of the peaks between two frequencies, by their place in the octave."""
    low, high = (int(np.ceil(limit * _WINDOW / RATE)) for limit in limits)
    below, at, above = (spectrum[:, low + d : high + d] for d in (-1, 0, 1))
    heights = np.where((at > below) & (at >= above), at, 0)
    if heights.shape[1] > _PEAKS:
        heights = np.where(heights >= np.partition(heights, -_PEAKS, axis=1)[:, -_PEAKS, None], heights, 0)
    frame, k = np.nonzero(heights)
    a, b, c = (np.log(part[frame, k] + 1e-9) for part in (below, at, above))
    # the top of the parabola through the peak and its neighbours
    place = k + low + np.clip(0.5 * (a - c) / (a - 2 * b + c - 1e-12), -0.5, 0.5)
    step = np.round(_FINE * np.log2(place * RATE / _WINDOW / _MIDDLE_C)).astype(int) % _FINE
    found = np.zeros((len(spectrum), _FINE))
    np.add.at(found, (frame, step), np.sqrt(heights[frame, k]))
    return found


def _fold(histogram: Array, offset: float) -> Array:
    """Return the twelve classes of a histogram [frames, 120] tuned off by some of its steps."""
    place: NDArray[np.float64] = (np.arange(_FINE) - offset) / _PER_SEMITONE
    distance = (place[:, None] - np.arange(12) + 6) % 12 - 6
    classes = histogram @ np.where(np.abs(distance) < 0.5, np.cos(np.pi * distance) ** 2, 0)
    top = classes.max(axis=1, keepdims=True)
    return np.where(top > 0, classes / (top + 1e-12), 0)
