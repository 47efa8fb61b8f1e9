"""Songs as models hear them: 16 kHz mono, and as much of a long one as there is room for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.decode import decode
from sidestep_core.audio.source import Samples
from sidestep_core.errors import AudioError, ProviderError

RATE = 16_000
_WINDOW = 30.0  # seconds: long enough for a part of a song to be understood
_FADE = RATE // 100


def hear(path: Path) -> Samples:
    """Return a song as float32 [samples] at 16 kHz.

    Raises:
        ProviderError: it cannot be decoded ("no audio").
    """
    try:
        return to_mono(decode(path), SAMPLE_RATE)
    except AudioError as error:
        raise ProviderError(str(error), kind="no audio") from error


def to_mono(audio: Samples, rate: int) -> Samples:
    """Return audio [2, samples] of any rate as [samples] at 16 kHz."""
    mono: Samples = soxr.resample(audio.mean(axis=0), rate, RATE, quality="HQ")
    return mono.astype(np.float32, copy=False)


def excerpt(audio: Samples, seconds: float) -> Samples:
    """Return at most so many seconds: all of a short song, windows from its beginning to its end of a longer one.

    The windows lie evenly over the song, the first at its start and the last at its end, and are faded into each other
    so that no click is heard where they meet.
    """
    length = int(seconds * RATE)
    if len(audio) <= length:
        return audio
    count = max(1, round(seconds / _WINDOW))
    size = length // count
    free = len(audio) - size
    starts = [free // 2] if count == 1 else [free * number // (count - 1) for number in range(count)]
    return np.concatenate([_faded(audio[start : start + size]) for start in starts])


def pieces(audio: Samples, seconds: float) -> Iterator[Samples]:
    """Yield all of a song in pieces of about the same length, none longer than so many seconds.

    Each is cut where it is quietest, at most a tenth of its length from where it would end: rather between words.
    """
    count = max(1, -(-len(audio) // int(seconds * RATE * 0.8))) if len(audio) > seconds * RATE else 1
    size, start = len(audio) / count, 0
    for number in range(1, count):
        end = _quietest(audio, round(number * size), round(size / 10))
        yield audio[start:end]
        start = end
    yield audio[start:]


def _quietest(audio: Samples, place: int, reach: int) -> int:
    """Return the middle of the quietest fifth of a second near a place."""
    width = min(RATE // 5, max(reach, 1))
    near = audio[place - reach : place + reach]
    power = np.convolve(near.astype(np.float64) ** 2, np.ones(width), mode="valid")
    return place - reach + int(power.argmin()) + width // 2


def _faded(audio: Samples) -> Samples:
    ramp = np.linspace(0, 1, min(_FADE, len(audio) // 2), dtype=np.float32)
    made = audio.copy()
    made[: len(ramp)] *= ramp
    made[len(made) - len(ramp) :] *= ramp[::-1]
    return made
