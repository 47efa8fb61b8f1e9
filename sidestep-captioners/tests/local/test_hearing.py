"""What local models get to hear of a song."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from sidestep_captioners.local.hearing import RATE, excerpt, hear, pieces, to_mono
from sidestep_core.errors import ProviderError


def ramp(seconds: float) -> np.ndarray:
    """Return samples that tell their own place: each is its time in seconds."""
    return np.arange(round(seconds * RATE), dtype=np.float32) / RATE


def test_any_file_becomes_16_khz_mono(tmp_path: Path) -> None:
    rate = 44100
    tone = 0.5 * np.sin(np.arange(3 * rate) * 2 * np.pi * 440 / rate)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, tone], axis=1), rate)
    heard = hear(tmp_path / "a.flac")
    assert (heard.dtype, heard.ndim) == (np.float32, 1)
    assert len(heard) == pytest.approx(3 * RATE, abs=2)
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * RATE / len(heard) == pytest.approx(440, abs=1)


def test_both_channels_are_heard(tmp_path: Path) -> None:
    left = np.sin(np.arange(2 * RATE) * 2 * np.pi * 300 / RATE)
    right = np.sin(np.arange(2 * RATE) * 2 * np.pi * 900 / RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1) * 0.4, RATE)
    spectrum = np.abs(np.fft.rfft(hear(tmp_path / "a.wav")))
    loud = sorted(spectrum.argsort()[-2:] / 2)
    assert loud == pytest.approx([300, 900], abs=1)


@pytest.mark.parametrize("name", ["gone.wav", "text.wav"])
def test_what_cannot_be_heard_is_an_error_of_the_song(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ProviderError) as caught:
        hear(tmp_path / name)
    assert caught.value.kind == "no audio"


def test_a_short_song_is_heard_whole() -> None:
    song = ramp(60)
    assert excerpt(song, 60) is song


def test_of_a_long_song_the_beginning_the_end_and_what_lies_between_are_heard() -> None:
    heard = excerpt(ramp(300), 120)
    assert len(heard) == 120 * RATE
    windows = heard.reshape(4, -1)
    middles = windows[:, windows.shape[1] // 2]
    assert middles == pytest.approx([15, 105, 195, 285], abs=0.1)


def test_one_window_is_from_the_middle() -> None:
    heard = excerpt(ramp(100), 20)
    assert heard[len(heard) // 2] == pytest.approx(50, abs=0.1)


def test_windows_meet_in_silence() -> None:
    heard = excerpt(np.ones(200 * RATE, dtype=np.float32), 60)
    seam = len(heard) // 2
    assert heard[seam - 1] == heard[seam] == 0
    assert np.abs(np.diff(heard)).max() < 0.01


@pytest.mark.parametrize("seconds", [0.6, 29.9, 30.0, 31.0, 95.0, 400.0])
def test_pieces_leave_nothing_out_and_none_is_too_long(seconds: float) -> None:
    song = ramp(seconds)
    parts = list(pieces(song, 30))
    assert np.array_equal(np.concatenate(parts), song)
    assert max(map(len, parts)) <= 30 * RATE
    assert min(map(len, parts)) >= 0.4 * RATE


def test_a_song_that_fits_is_one_piece() -> None:
    assert len(list(pieces(ramp(29), 30))) == 1


def test_a_song_is_cut_where_it_is_quiet() -> None:
    song = np.ones(40 * RATE, dtype=np.float32)
    song[19 * RATE : round(19.5 * RATE)] = 0
    first, second = pieces(song, 30)
    assert 19 * RATE <= len(first) <= 19.5 * RATE
    assert len(first) + len(second) == len(song)


@settings(deadline=None, max_examples=30)
@given(st.integers(RATE // 2, 200 * RATE), st.floats(5, 60))
def test_pieces_of_any_song_are_all_of_it_and_each_can_be_heard(length: int, seconds: float) -> None:
    song = np.random.default_rng(length).normal(size=length).astype(np.float32)
    parts = list(pieces(song, seconds))
    assert sum(map(len, parts)) == length
    assert np.array_equal(np.concatenate(parts), song)
    assert all(0.4 * RATE <= len(part) <= seconds * RATE + 1 for part in parts)


@settings(deadline=None, max_examples=30)
@given(st.integers(RATE // 2, 400 * RATE), st.floats(5, 120))
def test_an_excerpt_is_no_longer_than_allowed_and_no_louder_than_the_song(length: int, seconds: float) -> None:
    song = np.ones(length, dtype=np.float32)
    heard = excerpt(song, seconds)
    assert len(heard) <= max(seconds * RATE, 1)
    assert len(heard) >= min(length, 0.95 * seconds * RATE)
    assert heard.max() == 1
    assert heard.min() >= 0


def test_a_silent_song_is_no_song(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE), RATE)
    with pytest.raises(ProviderError, match="silent"):
        hear(tmp_path / "quiet.wav")


@pytest.mark.parametrize("form", ["flac", "ogg", "mp3"])
def test_forms_of_files_make_no_difference(tmp_path: Path, form: str) -> None:
    rate = 32000
    tone = 0.5 * np.sin(np.arange(2 * rate) * 2 * np.pi * 500 / rate)
    soundfile.write(tmp_path / f"a.{form}", tone, rate)
    heard = hear(tmp_path / f"a.{form}")
    assert len(heard) == pytest.approx(2 * RATE, rel=0.05)
    assert np.abs(np.fft.rfft(heard)).argmax() * RATE / len(heard) == pytest.approx(500, abs=2)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 96000])
def test_the_rate_of_a_file_makes_no_difference(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(np.arange(rate) * 2 * np.pi * 250 / rate), rate)
    heard = hear(tmp_path / "a.wav")
    assert len(heard) == pytest.approx(RATE, abs=2)
    assert np.abs(heard[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)


def test_what_is_heard_is_one_block_of_memory() -> None:
    stereo = np.ones((2, 48000), dtype=np.float32)
    heard = to_mono(stereo, 48000)
    assert heard.flags.c_contiguous
    assert heard.shape == (RATE,)
