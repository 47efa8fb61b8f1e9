"""Loudness treatment before encoding: none, a peak level, or an integrated loudness under a true-peak ceiling."""

from __future__ import annotations

import math
from typing import Literal

import attrs
import numpy as np
import pyloudnorm
import soxr

from sidestep_core.audio.constants import CHANNELS, SAMPLE_RATE
from sidestep_core.audio.source import Samples

Method = Literal["none", "peak", "lufs"]

_SILENT_PEAK = 1e-6
_GATING_BLOCK = 0.4  # seconds: integrated loudness is not defined for less
_CEILING_DBTP = -1.0
_OVERSAMPLING = 4


@attrs.frozen(kw_only=True)
class Loudness:
    """What was done to the level of a song.

    Attributes:
        method: "none", "peak" or "lufs".
        gain_db: gain applied to all samples.
        measured: peak in dBFS or integrated loudness in LUFS before the gain; None when not measured.
        limited: whether the true-peak ceiling allowed less gain than the target asks for.
        unchanged: why the song was left as it was although a target was set; empty otherwise.
    """

    method: Method
    gain_db: float = 0.0
    measured: float | None = None
    limited: bool = False
    unchanged: str = ""


def normalize(
    audio: Samples, method: Method, *, target_db: float = -1.0, target_lufs: float = -14.0
) -> tuple[Samples, Loudness]:
    """Bring a song [2, samples] at 48 kHz to a level; the input is not modified.

    Args:
        audio: float32 samples.
        method: "none", "peak" (sample peak to `target_db`) or "lufs" (integrated loudness to `target_lufs`, less
            where the true peak would exceed -1 dBTP).
        target_db: peak level in dBFS.
        target_lufs: integrated loudness in LUFS.

    Returns:
        The samples and what was done to them. Silence, and for "lufs" also less than 0.4 s, stays as it is.
    """
    if method == "none":
        return audio, Loudness(method=method)
    loudness = _plan_peak(audio, target_db) if method == "peak" else _plan_lufs(audio, target_lufs)
    if loudness.unchanged:
        return audio, loudness
    return audio * np.float32(10 ** (loudness.gain_db / 20)), loudness


def true_peak(audio: Samples) -> float:
    """Return the largest absolute value of [2, samples] between the samples too: of the 4 times oversampled signal."""
    oversampler = soxr.ResampleStream(SAMPLE_RATE, _OVERSAMPLING * SAMPLE_RATE, CHANNELS, dtype="float32", quality="HQ")
    peak = 0.0
    for start in range(0, audio.shape[1], SAMPLE_RATE):  # a second at a time: a whole song is 4 times its size
        block = np.ascontiguousarray(audio[:, start : start + SAMPLE_RATE].T)
        over = oversampler.resample_chunk(block, last=start + SAMPLE_RATE >= audio.shape[1])
        peak = max(peak, float(np.abs(block).max()), float(np.abs(over).max(initial=0.0)))
    return peak


def _plan_peak(audio: Samples, target_db: float) -> Loudness:
    peak = float(np.abs(audio).max(initial=0.0))
    if peak < _SILENT_PEAK:
        return Loudness(method="peak", unchanged="silent")
    measured = _decibels(peak)
    return Loudness(method="peak", gain_db=target_db - measured, measured=measured)


def _plan_lufs(audio: Samples, target_lufs: float) -> Loudness:
    if audio.shape[1] < _GATING_BLOCK * SAMPLE_RATE:
        return Loudness(method="lufs", unchanged=f"shorter than {_GATING_BLOCK} s, which loudness is not defined for")
    measured = float(pyloudnorm.Meter(SAMPLE_RATE, block_size=_GATING_BLOCK).integrated_loudness(audio.T))
    if not math.isfinite(measured):
        return Loudness(method="lufs", unchanged="silent: nothing in it is above -70 LUFS")
    wanted = target_lufs - measured
    allowed = _CEILING_DBTP - _decibels(true_peak(audio))
    return Loudness(method="lufs", gain_db=min(wanted, allowed), measured=measured, limited=allowed < wanted)


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude)
