"""The parts of rhythm analysis, each on a signal of which everything is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sidestep_captioners.analysis.bars import contrast, lag_contrast, peak_contrast, ratio
from sidestep_captioners.analysis.beats import fitted_bpm, track_beats
from sidestep_captioners.analysis.onsets import FPS, RATE, frames_of, mono, onset_bands
from sidestep_captioners.analysis.tempo import (
    FASTEST,
    SAME,
    SLOWEST,
    autocorrelation,
    candidates,
    local_periodicity,
    steadiness,
)


def clicks(bpm: float, seconds: float = 20.0) -> np.ndarray:
    """Return noise bursts at a tempo."""
    sound = np.zeros(int(seconds * RATE), dtype=np.float32)
    burst = np.random.default_rng(0).standard_normal(400) * np.exp(-np.arange(400) / 80)
    for start in np.arange(0, len(sound) - 400, 60 * RATE / bpm):
        sound[int(start) : int(start) + 400] += burst
    return sound


def impulses(frames: list[int], length: int) -> np.ndarray:
    """Return onset strength [4, length] with ones at some frames."""
    bands = np.zeros((4, length))
    bands[:, frames] = 1.0
    return bands


def test_there_are_a_hundred_frames_a_second_in_four_bands() -> None:
    bands = onset_bands(clicks(120, seconds=2.0))
    assert bands.shape == (4, 2 * FPS + 1)
    assert (bands >= 0).all()


def test_onsets_stand_where_something_begins() -> None:
    bands = onset_bands(clicks(60, seconds=4.2))
    loud = np.flatnonzero(bands[0] > 0.5 * bands[0].max())
    assert all(min(abs(frame - beat * FPS) for beat in range(5)) <= 3 for frame in loud)


def test_a_held_tone_has_no_onset_after_its_first() -> None:
    sound = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE).astype(np.float32)
    bands = onset_bands(sound)
    assert bands[0, 50:-50].max() < 0.1 * bands[0].max()


def test_silence_has_no_onsets() -> None:
    assert not onset_bands(np.zeros(RATE, dtype=np.float32)).any()


def test_mono_is_the_mean_of_the_channels_at_the_rate_of_analysis() -> None:
    stereo = np.stack([np.full(48_000, 0.5), np.full(48_000, -0.1)]).astype(np.float32)
    sound = mono(stereo, 48_000)
    assert len(sound) == RATE
    assert sound[RATE // 2] == pytest.approx(0.2, abs=1e-3)


def test_frames_are_centred_on_multiples_of_the_hop() -> None:
    frames = frames_of(np.arange(10, dtype=np.float32), 4, 2)
    assert frames.tolist()[1] == [0.0, 1.0, 2.0, 3.0]


def test_autocorrelation_is_one_at_no_lag_and_high_at_the_period() -> None:
    found = autocorrelation(impulses(list(range(0, 1000, 50)), 1000)[0], 120)
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found[50] > 0.9
    assert abs(found[25]) < 0.1


@pytest.mark.parametrize("bpm", [63.0, 97.0, 120.0, 171.0])
def test_the_tempo_of_clicks_is_among_the_candidates(bpm: float) -> None:
    assert any(abs(found.bpm / bpm - 1) < 0.01 for found in candidates(onset_bands(clicks(bpm))))


def test_candidates_differ_and_lie_within_the_range() -> None:
    tempi = sorted(found.bpm for found in candidates(onset_bands(clicks(110))))
    assert tempi[0] >= SLOWEST * 0.97
    assert tempi[-1] <= FASTEST * 1.03
    assert all(b / a - 1 > SAME * 0.9 for a, b in pairwise(tempi))


def test_beats_are_found_where_the_onsets_are() -> None:
    truth = list(range(20, 1980, 50))
    beats = track_beats(impulses(truth, 2000), 120)
    assert set(beats.tolist()) <= set(truth)
    assert len(beats) >= len(truth) - 2


def test_beats_go_on_where_onsets_are_missing() -> None:
    truth = list(range(20, 1980, 50))
    beats = track_beats(impulses([frame for frame in truth if frame not in (520, 570, 1020)], 2000), 120)
    assert np.abs(np.diff(beats) - 50).max() <= 3


def test_beats_follow_a_tempo_that_wanders() -> None:
    truth = np.cumsum(np.linspace(48, 52, 40)).astype(int).tolist()
    beats = track_beats(impulses(truth, truth[-1] + 60), 120)
    assert np.mean([beat in truth for beat in beats.tolist()]) > 0.9


def test_the_tempo_comes_from_all_beats() -> None:
    assert fitted_bpm(np.arange(0, 2000, 49), 121) == pytest.approx(60 * FPS / 49)


def test_beats_that_say_something_else_do_not_change_the_tempo() -> None:
    assert fitted_bpm(np.arange(0, 2000, 80), 120) == 120
    assert fitted_bpm(np.array([0, 50]), 119) == 119


def test_a_pulse_of_two_tempi_keeps_to_each_for_its_share() -> None:
    even = np.concatenate([clicks(120, 30.0), clicks(120, 30.0)])
    jump = np.concatenate([clicks(120, 30.0), clicks(156, 30.0)])
    assert steadiness(local_periodicity(onset_bands(even)), 120) == 1
    assert steadiness(local_periodicity(onset_bands(jump)), 120) == pytest.approx(0.5, abs=0.1)


def test_contrast_is_high_at_the_period_of_accents() -> None:
    accents = np.tile([1.0, 0.0, 0.0], 12)
    assert contrast(accents, 3) > 1 > contrast(accents, 4) + 0.5
    assert contrast(accents[:4], 3) == 0


def test_beats_alike_at_a_distance_of_three_speak_for_three() -> None:
    alike = np.array([1.0 if lag % 3 == 0 else 0.0 for lag in range(25)])
    assert lag_contrast(alike, 3) == 1
    assert peak_contrast(alike, 3) == 1
    assert lag_contrast(alike, 4) < 0.2


def test_a_ratio_of_nothing_to_nothing_is_even() -> None:
    assert ratio(0, 0) == 0
    assert ratio(0.2, 0.1) == pytest.approx(-ratio(0.1, 0.2))
