"""Any number of channels folds down to two as a mixing engineer would do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sidestep_core.audio.channels import stereo_matrix
from sidestep_core.audio.decode import decode

HALF = 0.5**0.5
SPEAKERS = {"L": 0, "R": 1, "C": 2, "LFE": 3, "Lb": 4, "Rb": 5, "Ls": 6, "Rs": 7}


def only(channel: int, channels: int, level: float = 0.4) -> NDArray[np.float32]:
    """Two seconds of 300 Hz in one of the channels: [samples, channels]."""
    audio = np.zeros((96_000, channels), dtype=np.float32)
    audio[:, channel] = level * np.sin(2 * np.pi * 300 * np.arange(96_000) / 48_000)
    return audio


def levels(audio: NDArray[np.float32]) -> list[float]:
    """Return the amplitude of left and right in the middle of the song."""
    return [float(np.abs(side[40_000:50_000]).max()) for side in audio]


def test_mono_and_stereo_pass() -> None:
    assert stereo_matrix(1).tolist() == [[1, 1]]
    assert stereo_matrix(2).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("speaker", "left", "right"),
    [
        ("L", 1, 0),
        ("R", 0, 1),
        ("C", HALF, HALF),
        ("LFE", 0, 0),
        ("Lb", HALF, 0),
        ("Rb", 0, HALF),
        ("Ls", HALF, 0),
        ("Rs", 0, HALF),
    ],
)
def test_7_1_folds_as_itu_r_bs_775_says(tmp_path: Path, speaker: str, left: float, right: float) -> None:
    path = tmp_path / "song.wav"
    # a little of the left keeps the effects channel's song from being silent
    soundfile.write(path, only(SPEAKERS[speaker], 8) + only(0, 8, 0.01), 48_000, subtype="FLOAT")
    assert levels(decode(path)) == pytest.approx([0.4 * left + 0.01, 0.4 * right], abs=1e-4)


def test_5_1_in_flac(tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    soundfile.write(path, only(5, 6), 48_000)
    assert levels(decode(path)) == pytest.approx([0, 0.4 * HALF], abs=1e-4)


@pytest.mark.parametrize(
    ("channel", "left", "right"), [(0, 1, 0), (1, HALF, HALF), (2, 0, 1), (3, HALF, 0), (4, 0, HALF), (5, 0, 0)]
)
def test_ogg_has_its_own_order(channel: int, left: float, right: float) -> None:
    assert stereo_matrix(6, vorbis_order=True)[channel] == pytest.approx([left, right])


def test_5_1_in_ogg(tmp_path: Path) -> None:
    path = tmp_path / "song.ogg"
    soundfile.write(path, only(1, 6), 48_000, format="OGG", subtype="VORBIS")
    assert levels(decode(path)) == pytest.approx([0.4 * HALF, 0.4 * HALF], abs=0.02)


@pytest.mark.parametrize("channels", range(2, 9))
@pytest.mark.parametrize("vorbis", [False, True])
def test_no_layout_prefers_a_side(channels: int, vorbis: bool) -> None:
    left, right = stereo_matrix(channels, vorbis_order=vorbis).sum(axis=0)
    assert left == pytest.approx(right)


@pytest.mark.parametrize("channels", range(1, 9))
def test_every_count_gives_two_channels(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, only(0, channels), 44_100)
    assert decode(path).shape == (2, 104_490)


def test_of_more_than_eight_channels_the_first_two_count(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, only(0, 12) + only(1, 12, 0.2) + only(7, 12), 48_000, subtype="FLOAT")
    assert levels(decode(path)) == pytest.approx([0.4, 0.2], abs=1e-4)


def test_a_fold_that_would_overload_is_turned_down_to_full_scale(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, sum(only(channel, 6, 0.9) for channel in range(6)), 48_000, subtype="FLOAT")
    audio = decode(path)
    assert np.abs(audio).max() == pytest.approx(1)
    np.testing.assert_allclose(audio[0], audio[1], atol=1e-6)


def test_a_stereo_overload_is_left_as_it_was_mixed(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, only(0, 2, 1.5), 48_000, subtype="FLOAT")
    assert np.abs(decode(path)).max() == pytest.approx(1.5, rel=1e-4)
