"""Loudness: peak and integrated targets are met, and nothing is pushed over the true-peak ceiling."""

from __future__ import annotations

import warnings

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sidestep_core.audio.loudness import Loudness, Method, normalize, true_peak


def sine(level: float, seconds: float = 2.0, frequency: float = 997.0, phase: float = 0.0) -> NDArray[np.float32]:
    time = np.arange(round(48_000 * seconds)) / 48_000
    wave = level * np.sin(2 * np.pi * frequency * time + phase)
    return np.stack([wave, wave]).astype(np.float32)


def clicks(level: float) -> NDArray[np.float32]:
    """Quiet noise with single loud samples: low loudness, high peak."""
    audio = np.random.default_rng(0).standard_normal((2, 96_000)) * 0.005
    audio[:, ::9_600] = level
    return audio.astype(np.float32)


def loudness_of(audio: NDArray[np.float32]) -> float:
    return float(pyloudnorm.Meter(48_000).integrated_loudness(audio.T))


def test_none_returns_the_same_samples() -> None:
    audio = sine(0.3)
    same, loudness = normalize(audio, "none")
    assert same is audio
    assert loudness == Loudness(method="none", gain_db=0.0, measured=None, limited=False, unchanged="")


def test_peak_agrees_with_the_reference_values() -> None:
    audio = np.array([[0.10000000149011612, -0.5, 0.25]], dtype=np.float32)
    louder, _ = normalize(audio, "peak", target_db=-1.0)
    np.testing.assert_allclose(louder, [[0.17825017869472504, -0.8912509083747864, 0.4456254541873932]], rtol=1e-6)
    assert louder.dtype == np.float32


def test_peak_reports_what_it_did() -> None:
    _, loudness = normalize(sine(0.5), "peak", target_db=-3.0)
    assert loudness.measured == pytest.approx(-6.02, abs=0.01)
    assert loudness.gain_db == pytest.approx(3.02, abs=0.01)
    assert not loudness.limited
    assert loudness.unchanged == ""


@settings(max_examples=30, deadline=None)
@given(level=st.floats(1e-4, 4.0), target=st.floats(-30.0, 0.0))
def test_peak_meets_any_target(level: float, target: float) -> None:
    audio, _ = normalize(sine(level, seconds=0.05), "peak", target_db=target)
    assert 20 * np.log10(np.abs(audio).max()) == pytest.approx(target, abs=1e-3)


@pytest.mark.parametrize("level", [0.0, 9e-7])
def test_peak_leaves_silence_alone(level: float) -> None:
    audio = np.full((2, 3), level, dtype=np.float32)
    same, loudness = normalize(audio, "peak")
    assert same is audio
    assert loudness.unchanged == "silent"


@pytest.mark.parametrize("target", [-9.0, -14.0, -23.0])
@pytest.mark.parametrize("level", [0.01, 0.2])
def test_lufs_meets_its_target(level: float, target: float) -> None:
    audio, loudness = normalize(sine(level), "lufs", target_lufs=target)
    assert loudness_of(audio) == pytest.approx(target, abs=0.05)
    assert loudness.gain_db == pytest.approx(target - loudness_of(sine(level)), abs=0.05)
    assert not loudness.limited


def test_lufs_turns_a_loud_song_down() -> None:
    audio, loudness = normalize(sine(0.9), "lufs", target_lufs=-14.0)
    assert loudness.measured == pytest.approx(-0.9, abs=0.2)
    assert loudness.gain_db == pytest.approx(-13.1, abs=0.2)
    assert np.abs(audio).max() < 0.25


def test_lufs_stops_at_the_true_peak_ceiling_and_says_so() -> None:
    audio, loudness = normalize(clicks(0.5), "lufs", target_lufs=-14.0)
    assert loudness.limited
    assert 20 * np.log10(true_peak(audio)) == pytest.approx(-1.0, abs=0.01)
    assert loudness_of(audio) < -14.5


def test_the_ceiling_also_holds_for_a_song_that_was_over_it() -> None:
    audio, loudness = normalize(clicks(1.4), "lufs", target_lufs=-5.0)
    assert loudness.gain_db < 0
    assert true_peak(audio) <= 10 ** (-1 / 20) + 1e-4


def test_true_peak_sees_between_the_samples() -> None:
    # at a quarter of the rate and 45 degrees every sample is 3 dB below the wave's crest
    audio = sine(1.0, frequency=12_000, phase=np.pi / 4)
    assert np.abs(audio).max() == pytest.approx(0.7071, abs=1e-3)
    assert true_peak(audio[:, :]) >= 0.99


@pytest.mark.parametrize("samples", [1, 1_920, 48_000, 48_001, 100_000])
def test_true_peak_is_never_below_the_sample_peak(samples: int) -> None:
    audio = np.random.default_rng(samples).uniform(-1, 1, (2, samples)).astype(np.float32)
    assert true_peak(audio) >= np.abs(audio).max()


def test_true_peak_sees_the_last_samples() -> None:
    audio = np.zeros((2, 50_000), dtype=np.float32)
    audio[1, -1] = -0.8
    assert true_peak(audio) >= 0.8


def test_less_than_a_loudness_block_stays_as_it_is() -> None:
    audio = sine(0.1, seconds=0.39)
    same, loudness = normalize(audio, "lufs")
    assert same is audio
    assert loudness.measured is None
    assert "shorter than 0.4 s" in loudness.unchanged


def test_a_loudness_block_is_enough() -> None:
    audio, loudness = normalize(sine(0.1, seconds=0.4), "lufs", target_lufs=-14.0)
    assert loudness.unchanged == ""
    assert loudness_of(audio) == pytest.approx(-14.0, abs=0.05)


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_lufs_leaves_silence_alone_without_a_warning(level: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same, loudness = normalize(sine(level), "lufs")
    assert np.abs(same).max() <= level
    assert loudness.gain_db == 0
    assert loudness.unchanged.startswith("silent")


@pytest.mark.parametrize("method", ["none", "peak", "lufs"])
def test_the_input_is_not_modified_and_the_result_fits_the_vae(method: Method) -> None:
    audio = sine(0.2)
    before = audio.copy()
    result, _ = normalize(audio, method)
    np.testing.assert_array_equal(audio, before)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
