"""An acoustic fingerprint: 32 bits for every 64 ms of sound, which stay when a song is encoded anew or made louder.

Each bit tells whether the step in energy from one band to the next grew or fell within 0.2 s (after Haitsma and Kalker,
"A Highly Robust Audio Fingerprinting System", 2002). A common gain or a smooth change of tone cancels out. Of the bits
of one recording in two encodings some 5 to 25 % differ, of those of two recordings about half.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from sidestep_core.audio.source import Samples

Codes = NDArray[np.uint32]

_RATE = 5_512
_WINDOW = 2_048  # 0.37 s
_HOP = 352
_LAG = 3  # codes between the two moments that are compared
_BANDS = 33
_RANGE = (200.0, 2_000.0)  # Hz: what telephones and the lowest bit rates keep
_BATCH = 4_096  # frames analysed at once: some 100 MB
CODES_A_SECOND = _RATE / _HOP


class Listener:
    """Takes the blocks of one song and makes its fingerprint; holds the song at 5.5 kHz in mono, 1.3 MB a minute.

    Args:
        rate: of the blocks.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = soxr.ResampleStream(rate, _RATE, 1, dtype="float32", quality="MQ")
        self._parts: list[Samples] = []

    def hear(self, block: Samples) -> None:
        """Take a block [frames, channels]."""
        self._parts.append(self._resampler.resample_chunk(block.mean(axis=1, keepdims=True))[:, 0])

    def fingerprint(self) -> Codes:
        """Return the codes, about 16 a second; none for less than a second."""
        self._parts.append(self._resampler.resample_chunk(np.empty((0, 1), dtype=np.float32), last=True)[:, 0])
        return _codes(np.concatenate(self._parts))


def _codes(mono: Samples) -> Codes:
    if len(mono) < _WINDOW + _LAG * _HOP:
        return np.empty(0, dtype=np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[::_HOP]
    steps = np.concatenate([_steps(frames[start : start + _BATCH]) for start in range(0, len(frames), _BATCH)])
    bits = steps[_LAG:] > steps[:-_LAG]
    packed: Codes = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    return packed


def _steps(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the steps [frames, 32] between the log energies of neighbouring bands."""
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), axis=1)) ** 2
    energy = np.log(power @ _band_weights() + 1e-9)
    steps: NDArray[np.float32] = np.diff(energy, axis=1).astype(np.float32)
    return steps


def _band_weights() -> NDArray[np.float64]:
    """Return [bins, 33]: bands of equal width on a log scale, with edges that fall over one bin."""
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE)[:, None]
    edges = np.geomspace(*_RANGE, _BANDS + 1)
    width = _RATE / _WINDOW
    weights: NDArray[np.float64] = np.clip(np.minimum(bins - edges[:-1], edges[1:] - bins) / width + 1, 0, 1)
    return weights
