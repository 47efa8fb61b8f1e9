"""Which tempi a song may have: the periods at which its onsets repeat."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np

from sidestep_captioners.analysis.onsets import FPS, Array

SLOWEST, FASTEST = 40.0, 240.0  # beats a minute
SAME = 0.04  # tempi closer than this are one
_STEP = 0.004  # of the logarithm of the tempo
_SECONDS = 12  # longest period looked at
_BAND_WEIGHTS = (1.0, 0.7, 0.5, 0.5)
_TAPS = ((1, 1.0), (2, 0.8), (4, 0.8), (3, 0.3), (6, 0.2), (8, 0.5))  # multiples of the beat and their weights
_RELATIVES = (1.0, 2.0, 0.5, 1.5, 2 / 3, 3.0, 1 / 3)
_PEAKS = 5
_STRETCH, _EVERY = 10 * FPS, 5 * FPS  # frames
_HELD = 0.5  # onsets of a stretch repeat at a tempo if they do half as well as at the stretch's best


@attrs.frozen
class Candidate:
    """A tempo in beats a minute and how well onsets repeat at it, from 0 to 1 of the song's own range."""

    bpm: float
    periodicity: float


def candidates(bands: Array) -> list[Candidate]:
    """Return tempi that may be the beat: the strongest periods, and those that stand to them as 2 or 3 to 1 or 2."""
    tempi = _tempi()
    strength = _in_range(_periodicity(bands, tempi))
    peaks = [i for i in range(1, len(tempi) - 1) if strength[i - 1] < strength[i] >= strength[i + 1]]
    peaks.sort(key=lambda i: -strength[i])
    found: list[Candidate] = []
    for bpm in _with_relatives([float(tempi[i]) for i in peaks], _PEAKS):
        at = _nearest_peak(tempi, strength, bpm)
        if all(abs(tempi[at] / other.bpm - 1) > SAME for other in found):
            found.append(Candidate(float(tempi[at]), float(strength[at])))
    return found


def local_periodicity(bands: Array) -> Array:
    """Return how well onsets of each stretch repeat at each tempo [stretches, tempi], from 0 to 1 of its range."""
    starts = range(0, max(1, bands.shape[1] - _STRETCH // 2), _EVERY)
    tempi = _tempi()
    return np.array([_in_range(_periodicity(bands[:, start : start + _STRETCH], tempi)) for start in starts])


def steadiness(local: Array, bpm: float) -> float:
    """Return the share of a song, from 0 to 1, that keeps to a tempo, given its `local_periodicity`."""
    near = np.abs(_tempi() / bpm - 1) <= SAME
    return float(np.mean(local[:, near].max(axis=1) > _HELD))


def autocorrelation(onsets: Array, lags: int) -> Array:
    """Return the autocorrelation at the lags 0 to `lags` - 1, 1 at lag 0, each from as many pairs as there are."""
    size = 1 << int(np.ceil(np.log2(2 * len(onsets))))
    spectrum = np.fft.rfft(onsets - onsets.mean(), size)
    found = np.fft.irfft(np.abs(spectrum) ** 2)[:lags] / (len(onsets) - np.arange(lags))
    return found / (found[0] + 1e-9)  # type: ignore[no-any-return]


def _tempi() -> Array:
    return np.exp(np.arange(np.log(SLOWEST), np.log(FASTEST), _STEP))  # type: ignore[no-any-return]


def _in_range(strength: Array) -> Array:
    return (strength - strength.min()) / (np.ptp(strength) + 1e-9)  # type: ignore[no-any-return]


def _periodicity(bands: Array, tempi: Array) -> Array:
    """Return for each tempo the mean autocorrelation at its beat and multiples of it."""
    lags = min(FPS * _SECONDS, bands.shape[1] - 2)
    rows = zip(_BAND_WEIGHTS, bands, strict=True)
    found = np.sum([weight * autocorrelation(band, lags) for weight, band in rows], axis=0)
    periods = 60 * FPS / tempi
    total, weights = np.zeros_like(tempi), np.full_like(tempi, 1e-9)
    for multiple, weight in _TAPS:
        inside = periods * multiple < lags - 2
        total += np.where(inside, weight * np.interp(periods * multiple, np.arange(lags), found), 0)
        weights += np.where(inside, weight, 0)
    return total / weights


def _with_relatives(tempi: list[float], count: int) -> Iterator[float]:
    for bpm in tempi[: 2 * count]:
        yield bpm
    for bpm in tempi[:count]:
        yield from (bpm * ratio for ratio in _RELATIVES if SLOWEST <= bpm * ratio <= FASTEST)


def _nearest_peak(tempi: Array, strength: Array, bpm: float) -> int:
    """Return the index of the strongest tempo within 3 % of one."""
    near = np.flatnonzero(np.abs(tempi / bpm - 1) <= 0.03)
    return int(near[np.argmax(strength[near])])
