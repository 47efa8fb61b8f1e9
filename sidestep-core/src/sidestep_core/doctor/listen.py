"""Listening to one file from beginning to end: how long, how loud, how clipped, and what it is. Runs in workers."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from sidestep_core.audio.channels import stereo_matrix
from sidestep_core.audio.constants import CHANNELS, SAMPLE_RATE
from sidestep_core.audio.decode import check_length, is_silent, open_source, sample_count, whole_blocks
from sidestep_core.audio.source import Samples
from sidestep_core.doctor.fingerprint import Codes, Listener

_FLAT = 4  # samples in a row at the top that make a clipped peak; a bass note's round top has fewer
_FULL_SCALE = 1 - 2.0**-15  # the highest value of 16 bits
_STEP = 2.0**-16  # relative: what counts as the same height, half a step of 16 bits at full scale
_QUIET = 10 ** (-60 / 20)


@attrs.frozen
class Listening:
    """A file to listen to, and how many seconds of it are used; 0 for all."""

    path: Path
    max_seconds: float


@attrs.frozen(kw_only=True)
class Heard:
    """What was heard in a file.

    Attributes:
        seconds: length of what is used of it, to the sample as preprocessing has it.
        peak: largest absolute value, full scale is 1.
        silent: whether preprocessing refuses it as silence.
        clipped: peaks that are cut flat, or lie beyond full scale.
        quiet: share of its blocks of 0.1 s that stay below -60 dBFS.
        content: hash of its samples; the same in WAV and FLAC.
        fingerprint: what it sounds like.
    """

    seconds: float
    peak: float
    silent: bool
    clipped: int
    quiet: float
    content: str
    fingerprint: Codes = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))


def listen(task: Listening) -> Heard:
    """Listen to a file, a block at a time.

    Raises:
        AudioError: it cannot be used, for the same reasons as in `decode`; silence is not among them.
    """
    with open_source(task.path) as source:
        content = hashlib.blake2b(f"{source.rate} {source.channels}".encode(), digest_size=16)
        matrix = stereo_matrix(source.channels, vorbis_order=source.vorbis_order)
        listener, peaks, levels = Listener(source.rate), _Peaks(), _Levels(source.rate)
        frames = 0
        for block in whole_blocks(source, task.max_seconds):
            frames += len(block)
            content.update(np.ascontiguousarray(block).data)
            peaks.hear(block)
            stereo = block if source.channels == CHANNELS else block @ matrix
            levels.hear(stereo)
            listener.hear(stereo)
        samples = sample_count(frames, source.rate, task.max_seconds)
    check_length(samples)
    return Heard(
        seconds=samples / SAMPLE_RATE,
        peak=levels.peak,
        silent=is_silent(levels.peak),
        clipped=peaks.clipped,
        quiet=levels.quiet / levels.spans,
        content=content.hexdigest(),
        fingerprint=listener.fingerprint(),
    )


class _Peaks:
    """Counts peaks that are cut flat at the highest level of the file, or at full scale, whichever is lower."""

    def __init__(self) -> None:
        self.clipped = 0
        self._top = 0.0

    def hear(self, block: Samples) -> None:
        """Take a block [frames, channels]."""
        heights = np.abs(block)
        highest = float(heights.max(initial=0.0))
        if highest > self._top * (1 + _STEP):
            # all that was flat lies below the new top; what is beyond full scale stays
            self.clipped = self.clipped if self._top == _FULL_SCALE else 0
            self._top = min(highest, _FULL_SCALE)
        if self._top > 0:
            self.clipped += sum(_runs(channel >= self._top * (1 - _STEP)) for channel in heights.T)


class _Levels:
    """Follows the level in spans of 0.1 s, as far as they lie in one block.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: int) -> None:
        self._span = max(1, rate // 10)
        self.peak = 0.0
        self.quiet = self.spans = 0

    def hear(self, block: Samples) -> None:
        """Take a block [frames, 2]."""
        heights = np.abs(block).max(axis=1)
        count = math.ceil(len(heights) / self._span)
        loudest = np.maximum.reduceat(heights, np.arange(count) * self._span)
        self.peak = max(self.peak, float(loudest.max()))
        self.quiet += int((loudest < _QUIET).sum())
        self.spans += count


def _runs(high: NDArray[np.bool_]) -> int:
    """Return how often at least `_FLAT` values in a row are true."""
    edges = np.flatnonzero(np.diff(high, prepend=False, append=False))
    return int((edges[1::2] - edges[::2] >= _FLAT).sum())
