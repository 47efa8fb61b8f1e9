"""Where something begins: onset strength in four bands, a hundred times a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, uniform_filter1d

Array = NDArray[np.floating[Any]]
Samples = NDArray[np.float32]

RATE = 22_000  # Hz; a hop of 220 samples is then exactly 10 ms
FPS = 100
_WINDOW = 2048
_BLOCK = 1024  # frames transformed at a time
_EDGES = (200.0, 2000.0)  # Hz, between the low, the middle and the high band
_LOWEST, _HIGHEST, _PER_OCTAVE = 30.0, 10_000.0, 12


def mono(audio: Samples, rate: int) -> Samples:
    """Return audio [channels, samples] as one channel at `RATE`."""
    return soxr.resample(audio.mean(axis=0), rate, RATE)  # type: ignore[no-any-return]


def onset_bands(sound: Samples) -> Array:
    """Return onset strength [4, frames]: of all bands, below 200 Hz, from 200 to 2000 Hz, above 2000 Hz.

    It is the rise of the logarithmic level against the frame before the last, widened by a band to each side so that a
    gliding note is no onset, less its mean over a second. Each row has the standard deviation 1.
    """
    level, centres = _log_levels(sound)
    rise = np.zeros_like(level)
    rise[2:] = np.maximum(0, level[2:] - maximum_filter1d(level, 3, axis=1)[:-2])
    low, high = _EDGES
    masks = (centres > 0, centres < low, (centres >= low) & (centres < high), centres >= high)
    return np.array([_without_mean(rise[:, mask].sum(axis=1)) for mask in masks])


def frames_of(sound: Samples, size: int, hop: int) -> Samples:
    """Return a view [frames, size] of the sound, each frame centred on a multiple of `hop`."""
    padded = np.pad(sound, (size // 2, size // 2))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _log_levels(sound: Samples) -> tuple[Array, Array]:
    """Return the level [frames, bands] of bands a semitone wide, and their lower edges in Hz."""
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    steps = np.arange(int(_PER_OCTAVE * np.log2(_HIGHEST / _LOWEST)))
    edges = np.unique(np.searchsorted(frequencies, _LOWEST * 2 ** (steps / _PER_OCTAVE)))
    frames, window = frames_of(sound, _WINDOW, RATE // FPS), np.hanning(_WINDOW).astype(np.float32)
    energy: Array = np.concatenate(
        [
            np.add.reduceat(np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window, axis=1)), edges, axis=1)[:, :-1]
            for start in range(0, len(frames), _BLOCK)
        ]
    )
    level: Array = np.log1p(1000 * energy / (energy.max() + 1e-9))
    centres: Array = frequencies[edges[:-1]]
    return level, centres


def _without_mean(onsets: Array) -> Array:
    rest = np.maximum(0, onsets - uniform_filter1d(onsets, FPS))
    return rest / (rest.std() + 1e-9)  # type: ignore[no-any-return]
