"""Songs that are there twice are found by ear; others are not taken for each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sidestep_core.doctor.duplicates import Match, find_matches
from sidestep_core.doctor.fingerprint import CODES_A_SECOND, Codes
from sidestep_core.doctor.listen import Listening, listen
from sidestep_core.synthetic import write_songs

RATE = 44_100
Wave = NDArray[np.float32]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Wave]:
    """Return three songs of one style and one of another, [samples, 2] at 44.1 kHz; the first lasts 30 s."""
    paths = write_songs(tmp_path_factory.mktemp("songs"), seconds=[12, 1, 1, 30, 12, 1, 12], seed=3)
    waves = []
    for number in (3, 0, 6, 4):
        samples, rate = soundfile.read(paths[number], dtype="float32")
        times = np.arange(int(len(samples) / rate * RATE)) / RATE * rate
        waves.append(np.stack([np.interp(times, np.arange(len(samples)), side) for side in samples.T], axis=1))
    return waves


def codes(path: Path, wave: Wave, rate: int = RATE) -> Codes:
    with soundfile.SoundFile(path, "w", rate, wave.shape[1] if wave.ndim > 1 else 1) as file:
        for start in range(0, len(wave), rate):  # the Vorbis encoder puts what it is given on the stack
            file.write(wave[start : start + rate])
    return listen(Listening(path, 0.0)).fingerprint


def only(fingerprints: list[Codes]) -> Match:
    (match,) = find_matches(fingerprints)
    return match


@pytest.fixture(scope="module")
def first(songs: list[Wave], tmp_path_factory: pytest.TempPathFactory) -> Codes:
    return codes(tmp_path_factory.mktemp("first") / "first.wav", songs[0])


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".flac"])
def test_a_song_is_found_again_in_another_encoding(
    tmp_path: Path, songs: list[Wave], first: Codes, suffix: str
) -> None:
    wave = songs[0][: 20 * RATE]
    match = only([codes(tmp_path / "a.wav", wave), codes(tmp_path / f"b{suffix}", wave)])
    assert (match.of, match.song) == (0, 1)
    assert match.differing < 0.15
    assert match.overlap > 0.98
    assert abs(match.start) < 0.2


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.4])
def test_a_song_is_found_again_at_another_level(tmp_path: Path, songs: list[Wave], first: Codes, gain: float) -> None:
    assert only([first, codes(tmp_path / "b.wav", gain * songs[0])]).differing < 0.1


def test_a_song_is_found_again_in_mono_at_another_rate(tmp_path: Path, songs: list[Wave], first: Codes) -> None:
    assert only([first, codes(tmp_path / "b.wav", songs[0].mean(axis=1)[::2], RATE // 2)]).differing < 0.2


@pytest.mark.parametrize("start", [0.0, 7.0, 15.37])
def test_a_part_is_found_with_its_place(tmp_path: Path, songs: list[Wave], first: Codes, start: float) -> None:
    begin = int(start * RATE)
    match = only([first, codes(tmp_path / "b.ogg", songs[0][begin : begin + 14 * RATE])])
    assert match.inside
    assert match.start == pytest.approx(start, abs=0.2)
    assert match.overlap == pytest.approx(14 / 30, abs=0.03)


def test_a_part_that_comes_first_is_told_to_be_in_the_later_song(
    tmp_path: Path, songs: list[Wave], first: Codes
) -> None:
    match = only([codes(tmp_path / "a.wav", songs[0][10 * RATE : 24 * RATE]), first])
    assert not match.inside
    assert match.start == pytest.approx(10, abs=0.2)


def test_a_song_with_silence_in_front_is_found(tmp_path: Path, songs: list[Wave], first: Codes) -> None:
    wave = np.concatenate([np.zeros((int(1.3 * RATE), 2), np.float32), songs[0]])
    assert only([first, codes(tmp_path / "b.wav", wave)]).differing < 0.1


def test_other_songs_are_not_taken_for_each_other(tmp_path: Path, songs: list[Wave]) -> None:
    assert find_matches([codes(tmp_path / f"{n}.wav", wave) for n, wave in enumerate(songs)]) == []


def test_songs_that_share_their_silence_alone_are_different(tmp_path: Path, songs: list[Wave]) -> None:
    silence = np.zeros((15 * RATE, 2), np.float32)
    waves = [np.concatenate([silence, wave[: 10 * RATE], silence]) for wave in (songs[1], songs[3])]
    assert find_matches([codes(tmp_path / f"{n}.wav", wave) for n, wave in enumerate(waves)]) == []


def test_eight_seconds_in_common_are_needed(tmp_path: Path, songs: list[Wave], first: Codes) -> None:
    assert find_matches([first, codes(tmp_path / "b.wav", songs[0][: 6 * RATE])]) == []


def test_two_songs_that_share_a_part_are_not_the_same(tmp_path: Path, songs: list[Wave]) -> None:
    shared = songs[0][: 10 * RATE]
    one, other = (np.concatenate([wave[: 10 * RATE], shared]) for wave in (songs[1], songs[3]))
    assert find_matches([codes(tmp_path / "a.wav", one), codes(tmp_path / "b.wav", other)]) == []


def test_every_pair_is_told_by_the_later_song() -> None:
    random = np.random.default_rng(0)
    song, other = (random.integers(0, 1 << 32, 400, dtype=np.uint32) for _ in range(2))
    noisy = song ^ (random.random(400) < 0.3).astype(np.uint32)
    found = find_matches([song, other, noisy, np.empty(0, np.uint32), song.copy()])
    assert [(match.of, match.song) for match in found] == [(0, 2), (0, 4), (2, 4)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_sets_with_nothing_to_compare_have_no_matches(count: int) -> None:
    assert find_matches([np.empty(0, np.uint32)] * count) == []


def test_a_song_with_a_common_loop_in_hundreds_of_songs_costs_no_pairs() -> None:
    random = np.random.default_rng(0)
    loop = random.integers(0, 1 << 32, 200, dtype=np.uint32)
    own = [random.integers(0, 1 << 32, 800, dtype=np.uint32) for _ in range(300)]
    twin = own[7].copy()
    found = find_matches([*(np.concatenate([loop, each]) for each in own), np.concatenate([loop, twin])])
    assert [(match.of, match.song) for match in found] == [(7, 300)]


def test_a_second_has_about_sixteen_codes(first: Codes) -> None:
    assert len(first) / 30 == pytest.approx(CODES_A_SECOND, rel=0.03)
