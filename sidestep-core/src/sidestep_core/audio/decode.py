"""Any audio file as 48 kHz stereo, in blocks, so that memory holds little more than the result.

libsndfile reads what it can, ffmpeg the rest; the content of a file decides, not its name. Resampling is soxr's HQ
(20 bits: its errors lie 120 dB down, far under what the VAE keeps), and audio that is at 48 kHz passes untouched.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import numpy as np
import soxr

from sidestep_core.audio.channels import stereo_matrix
from sidestep_core.audio.constants import CHANNELS, HOP, SAMPLE_RATE
from sidestep_core.audio.ffmpeg import open_ffmpeg
from sidestep_core.audio.native import open_native
from sidestep_core.audio.source import Samples, Source, UnsupportedFile
from sidestep_core.errors import AudioError

_COMPLETE = 0.98  # share of the promised length below which a file counts as truncated
_SILENCE_DB = -90.0
SILENT = f"silent: its peak is below {_SILENCE_DB:.0f} dBFS"
_TRUSTED = 1 << 28  # samples (93 minutes) set aside on a header's word; a damaged one may promise anything


@attrs.frozen
class AudioInfo:
    """What a file says about itself: its length in seconds, its rate in Hz and its channels."""

    seconds: float
    sample_rate: int
    channels: int


def probe(path: Path) -> AudioInfo:
    """Return length and shape of a file from its header; only a file that tells no length is read through.

    Raises:
        AudioError: the file cannot be read or is not audio.
    """
    with open_source(path) as source:
        frames = sum(len(block) for block in source.blocks) if source.frames is None else source.frames
        return AudioInfo(frames / source.rate, source.rate, source.channels)


def decode(path: Path, *, max_seconds: float = 0.0) -> Samples:
    """Read a file as float32 [2, samples] at 48 kHz, C-contiguous and finite.

    Args:
        path: the file; wav, flac, mp3, ogg and opus need no ffmpeg, with few exceptions.
        max_seconds: how much of the beginning is read; 0 reads all.

    Raises:
        AudioError: the file cannot be read, is not audio, is truncated (less than 98 % of the length in its header can
            be decoded), shorter than a latent frame, silent (peak below -90 dBFS), or holds NaN or infinite samples.
    """
    with open_source(path) as source:
        audio = _read(source, max_seconds)
        folded = source.channels > CHANNELS
    check_length(audio.shape[1])
    peak = max(float(audio.max()), -float(audio.min()))  # abs() would need the memory twice
    if is_silent(peak):
        raise AudioError(SILENT)
    if folded and peak > 1:  # loud channels add up; a real overload is left as it was mixed
        audio /= np.float32(peak)
    return audio


def check_length(samples: int) -> None:
    """Raise `AudioError` for less audio than a latent frame, in samples at 48 kHz."""
    if samples < HOP:
        raise AudioError(f"too short: {samples} samples at 48 kHz, and a latent frame takes {HOP}")


def is_silent(peak: float) -> bool:
    """Tell whether audio with this largest absolute value counts as silence."""
    return peak < 10 ** (_SILENCE_DB / 20)


def sample_count(frames: int, rate: int, max_seconds: float) -> int:
    """Return how many samples at 48 kHz `decode` makes of a number of frames."""
    samples = (2 * frames * SAMPLE_RATE + rate) // (2 * rate)  # to the nearest, as the resampler does
    return min(samples, math.floor(max_seconds * SAMPLE_RATE)) if max_seconds else samples


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file with the first decoder that reads it.

    Raises:
        AudioError: it cannot be read or is not audio.
    """
    _check_file(path)
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_native(path))
        except UnsupportedFile:
            source = stack.enter_context(open_ffmpeg(path))
        yield source


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("cannot be read: not a regular file")
        path.open("rb").close()
    except OSError as error:
        raise AudioError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not status.st_size:
        raise AudioError("empty file")


def whole_blocks(source: Source, max_seconds: float) -> Iterator[Samples]:
    """Yield the blocks of an open file, as much of it as is used.

    Raises:
        AudioError: a sample is not finite; or, at the end, much of the length that the header promises is missing.
    """
    limit = math.ceil(max_seconds * source.rate) if max_seconds else None
    frames = 0
    for block in _finite_blocks(source, limit):
        frames += len(block)
        yield block
    promised = _promised(source, limit)
    if promised is not None and frames < _COMPLETE * promised - source.rate / 50:  # ffmpeg tells hundredths of seconds
        raise AudioError(f"truncated: {frames / source.rate:.1f} of {promised / source.rate:.1f} s can be decoded")


def _promised(source: Source, limit: int | None) -> int | None:
    return source.frames if limit is None or source.frames is None else min(source.frames, limit)


def _read(source: Source, max_seconds: float) -> Samples:
    promised = _promised(source, math.ceil(max_seconds * source.rate) if max_seconds else None)
    output = _Output(min(math.ceil((promised or 0) * SAMPLE_RATE / source.rate), _TRUSTED))
    resampler = soxr.ResampleStream(source.rate, SAMPLE_RATE, CHANNELS, dtype="float32", quality="HQ")
    matrix = stereo_matrix(source.channels, vorbis_order=source.vorbis_order)
    frames = 0
    for block in whole_blocks(source, max_seconds):
        frames += len(block)
        stereo = block if source.channels == CHANNELS else block @ matrix
        output.append(stereo if source.rate == SAMPLE_RATE else resampler.resample_chunk(stereo))
    if frames and source.rate != SAMPLE_RATE:
        output.append(resampler.resample_chunk(np.empty((0, CHANNELS), dtype=np.float32), last=True))
    return output.finish(math.floor(max_seconds * SAMPLE_RATE) if max_seconds else None)


def _finite_blocks(source: Source, limit: int | None) -> Iterator[Samples]:
    """Yield finite blocks up to `limit` frames in all."""
    done = 0
    for block in source.blocks:
        if limit is not None:
            block = block[: limit - done]
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise AudioError(f"NaN or infinite samples, first at {(done + int(finite.argmin())) / source.rate:.2f} s")
        done += len(block)
        yield block
        if done == limit:
            return


class _Output:
    """A growing [2, samples] array; made in its final size when the length is known beforehand."""

    def __init__(self, expected: int) -> None:
        self._data = np.empty((CHANNELS, expected), dtype=np.float32)
        self._used = 0

    def append(self, block: Samples) -> None:
        """Add a block [frames, 2]."""
        end = self._used + len(block)
        if end > self._data.shape[1]:
            grown = np.empty((CHANNELS, max(end, 2 * self._data.shape[1])), dtype=np.float32)
            grown[:, : self._used] = self._data[:, : self._used]
            self._data = grown
        self._data[:, self._used : end] = block.T
        self._used = end

    def finish(self, limit: int | None) -> Samples:
        """Return what was added, at most `limit` samples, C-contiguous and without a second copy."""
        length = self._used if limit is None else min(limit, self._used)
        flat = self._data.reshape(-1)
        if length < self._data.shape[1]:
            flat[length : 2 * length] = self._data[1, :length]
        return flat[: 2 * length].reshape(CHANNELS, length)
