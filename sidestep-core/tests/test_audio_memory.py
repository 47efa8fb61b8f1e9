"""Long files: only what is wanted is read, and memory holds little more than the result."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from sidestep_core.audio.decode import decode, probe

MEGABYTE = 1 << 20


@contextmanager
def peak_megabytes() -> Iterator[Callable[[], float]]:
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] / MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.fixture
def three_hours(tmp_path: Path) -> Path:
    """A sparse WAV at 8 kHz: four seconds of noise and hours of zeros that take no room on the disk."""
    path = tmp_path / "long.wav"
    rate, size = 8_000, 3 * 3600 * 8_000 * 2
    noise = (np.random.default_rng(0).standard_normal(4 * rate) * 3000).astype("<i2").tobytes()
    riff = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size
    )
    with path.open("wb") as file:
        file.write(riff + noise)
        file.truncate(len(riff) + size)
    return path


def test_the_beginning_of_three_hours_costs_only_the_beginning(three_hours: Path) -> None:
    with peak_megabytes() as peak:
        audio = decode(three_hours, max_seconds=3)
        used = peak()
    assert audio.shape == (2, 144_000)
    assert used < 8


def test_three_hours_are_measured_without_being_read(three_hours: Path) -> None:
    with peak_megabytes() as peak:
        assert probe(three_hours).seconds == 10_800
        assert peak() < 1


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_memory_is_about_the_size_of_the_result(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "song.wav"
    minute = np.random.default_rng(0).integers(-9000, 9000, (60 * rate, 2), dtype=np.int16)
    soundfile.write(path, minute, rate)
    with peak_megabytes() as peak:
        audio = decode(path)
        used = peak()
    assert audio.shape == (2, 60 * 48_000)
    assert used < audio.nbytes / MEGABYTE + 4


def test_blocks_join_without_a_seam(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    samples = np.random.default_rng(0).standard_normal((300_001, 2)).astype(np.float32) * 0.1
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    np.testing.assert_allclose(decode(path).T, soxr.resample(samples, 44_100, 48_000, quality="HQ"), atol=1e-6)


@pytest.mark.parametrize("rate", [11_025, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("seconds", [0.04, 0.5, 1.23456, 1.9999])
def test_max_seconds_is_kept_to_the_sample(tmp_path: Path, rate: int, seconds: float) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (2 * rate, 2)), rate)
    assert decode(path, max_seconds=seconds).shape == (2, int(seconds * 48_000))


def test_max_seconds_beyond_the_end_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (44_100, 2)), 44_100)
    np.testing.assert_array_equal(decode(path, max_seconds=100), decode(path))


def test_a_cut_song_is_the_beginning_of_the_whole_song(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (4 * 44_100, 2)), 44_100)
    whole, beginning = decode(path), decode(path, max_seconds=2)
    before_the_cut = 96_000 - 480  # the resampler looks a few milliseconds ahead
    np.testing.assert_allclose(beginning[:, :before_the_cut], whole[:, :before_the_cut], atol=1e-6)
