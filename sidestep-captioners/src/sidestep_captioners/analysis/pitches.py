"""Which pitch classes sound: profiles from spectral peaks, with the song's tuning and overtones taken out."""

from __future__ import annotations

import attrs
import numpy as np
import scipy.signal
from numpy.typing import NDArray

from sidestep_captioners.analysis.onsets import RATE, Array, Samples, frames_of

HOP = 2048
_WINDOW = 8192
_BLOCK = 256  # frames transformed at a time
_BAND = (38.0, 1000.0)  # Hz
_PEAKS = 60  # strongest peaks of a frame
_FIRST, _COUNT = 24, 72  # MIDI pitches that are kept: six octaves from a C on
_CHORDS, _BASS = (35, 84), (27, 55)  # MIDI pitches, the second excluded
# semitones from a note to its third, fifth and seventh partial, and how strong these are: a distorted guitar that plays
# a root and its fifth would else sound a major third
_OVERTONES = ((19, 0.4), (28, 0.6), (34, 0.4))


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


@attrs.frozen
class _Peaks:
    """Peaks of spectra: the frame of each, its MIDI pitch with a fraction, and the square root of its height."""

    frame: NDArray[np.int64]
    pitch: Array
    strength: Array


def find_pitches(sound: Samples) -> Pitches:
    """Return the pitch classes of a sound at `RATE`."""
    frames, window = frames_of(sound, _WINDOW, HOP), scipy.signal.get_window("blackmanharris", _WINDOW)
    blocks = [
        _find_peaks(np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window, axis=1)), start)
        for start in range(0, len(frames), _BLOCK)
    ]
    peaks = _Peaks(*(np.concatenate(parts) for parts in zip(*map(attrs.astuple, blocks), strict=True)))
    offset = float(np.angle((peaks.strength * np.exp(2j * np.pi * peaks.pitch)).sum()) / (2 * np.pi))
    notes = _without_overtones(_to_semitones(peaks, offset, len(frames)))
    return Pitches(chords=_fold(notes, *_CHORDS), bass=_fold(notes, *_BASS), cents=100 * offset)


def _find_peaks(spectra: Array, first_frame: int) -> _Peaks:
    low, high = (int(np.ceil(limit * _WINDOW / RATE)) for limit in _BAND)
    below, at, above = (spectra[:, low + d : high + d] for d in (-1, 0, 1))
    heights = np.where((at > below) & (at >= above), at, 0)
    heights = np.where(heights >= np.partition(heights, -_PEAKS, axis=1)[:, -_PEAKS, None], heights, 0)
    frame, k = np.nonzero(heights)
    a, b, c = (np.log(part[frame, k] + 1e-9) for part in (below, at, above))
    # the top of the parabola through the peak and its neighbours
    place = k + low + np.clip(0.5 * (a - c) / (a - 2 * b + c - 1e-12), -0.5, 0.5)
    pitch = 69 + 12 * np.log2(place * RATE / _WINDOW / 440)
    return _Peaks(frame + first_frame, pitch, np.sqrt(heights[frame, k]))


def _to_semitones(peaks: _Peaks, offset: float, frames: int) -> Array:
    """Return the strength of each semitone from `_FIRST` on [frames, 72]; peaks between two semitones count less."""
    tuned = peaks.pitch - offset
    nearest = np.round(tuned)
    found = np.zeros((frames, _COUNT))
    np.add.at(
        found, (peaks.frame, nearest.astype(int) - _FIRST), np.cos(np.pi * (tuned - nearest)) ** 2 * peaks.strength
    )
    return found


def _without_overtones(notes: Array) -> Array:
    rest = notes.copy()
    for steps, share in _OVERTONES:
        rest[:, steps:] -= share * notes[:, :-steps]
    return np.maximum(rest, 0)


def _fold(notes: Array, lowest: int, end: int) -> Array:
    """Return the pitch classes [frames, 12] of a range of semitones, the strongest of each frame 1."""
    part = np.zeros_like(notes)
    part[:, lowest - _FIRST : end - _FIRST] = notes[:, lowest - _FIRST : end - _FIRST]
    classes = part.reshape(len(part), -1, 12).sum(axis=1)
    top = classes.max(axis=1, keepdims=True)
    return np.where(top > 0, classes / (top + 1e-12), 0)
