"""Generated songs are real files with truthful sidecars, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sidestep_core.audio.decode import decode, probe
from sidestep_core.sidecars import read_sidecar
from sidestep_core.synthetic import write_songs

LENGTHS = (2.0, 3.2, 2.4, 4.0)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_songs(tmp_path_factory.mktemp("songs"), seconds=LENGTHS)


def test_every_song_has_its_length_and_is_stereo(songs: list[Path]) -> None:
    assert [probe(song).seconds for song in songs] == pytest.approx(LENGTHS, abs=0.01)
    assert {probe(song).channels for song in songs} == {2}


def test_formats_and_rates_differ(songs: list[Path]) -> None:
    assert [song.suffix for song in songs] == [".wav", ".flac", ".ogg", ".mp3"]
    assert len({probe(song).sample_rate for song in songs}) == 3


def test_every_song_can_be_decoded_and_is_not_clipped(songs: list[Path]) -> None:
    peaks = [np.abs(decode(song)).max() for song in songs]
    assert peaks == pytest.approx([10 ** (-3 / 20)] * len(songs), abs=0.08)


def test_left_and_right_differ(songs: list[Path]) -> None:
    assert all(np.abs(np.subtract(*decode(song))).max() > 0.01 for song in songs)


def test_sound_goes_on_to_the_end(songs: list[Path]) -> None:
    assert all(np.abs(decode(song)[:, -12_000:]).max() > 0.05 for song in songs)


def test_every_song_has_a_whole_sidecar(songs: list[Path]) -> None:
    for sidecar in map(read_sidecar, songs):
        assert sidecar is not None
        assert all((sidecar.caption, sidecar.genre, sidecar.bpm, sidecar.key, sidecar.signature, sidecar.lyrics))


def test_keys_tempi_and_metres_differ(songs: list[Path]) -> None:
    sidecars = [sidecar for sidecar in map(read_sidecar, songs) if sidecar]
    assert {sidecar.signature for sidecar in sidecars} == {"3/4", "4/4"}
    assert {sidecar.key.split()[1] for sidecar in sidecars} == {"major", "minor"}
    assert len({sidecar.bpm for sidecar in sidecars}) > 2


def test_one_song_is_instrumental_and_says_so_everywhere(songs: list[Path]) -> None:
    (instrumental,) = [each for each in map(read_sidecar, songs) if each and each.is_instrumental == "true"]
    assert instrumental.lyrics == "[Instrumental]"
    assert "instrumental" in instrumental.caption


def test_the_tempo_in_the_sidecar_is_that_of_the_music(tmp_path: Path) -> None:
    (song,) = write_songs(tmp_path, seconds=(12.0,))
    sidecar = read_sidecar(song)
    assert sidecar is not None
    beat = 60 / float(sidecar.bpm)
    low = np.abs(decode(song).mean(axis=0)[: 48_000 * 12].reshape(-1, 480)).mean(axis=1)  # level every 10 ms
    level = low - low.mean()
    at = [
        float((level[round(100 * beat * lag) :] * level[: len(level) - round(100 * beat * lag)]).mean())
        for lag in (1.0, 0.75)
    ]
    assert at[0] > 2 * at[1]


@pytest.mark.parametrize("index", [0, 1])
def test_the_same_seed_gives_the_same_files(songs: list[Path], tmp_path: Path, index: int) -> None:
    again = write_songs(tmp_path, seconds=LENGTHS[:2])
    assert again[index].name == songs[index].name
    assert again[index].read_bytes() == songs[index].read_bytes()
    assert read_sidecar(again[index]) == read_sidecar(songs[index])


def test_another_seed_gives_another_song(songs: list[Path], tmp_path: Path) -> None:
    (other,) = write_songs(tmp_path, seconds=LENGTHS[:1], seed=1)
    assert not np.array_equal(decode(other), decode(songs[0]))


@pytest.mark.parametrize("seconds", [0.05, 0.1])
def test_even_a_moment_holds_sound(tmp_path: Path, seconds: float) -> None:
    (song,) = write_songs(tmp_path, seconds=(seconds,))
    assert np.abs(decode(song)).max() > 0.5


@pytest.mark.slow
def test_songs_of_any_length_are_written_in_every_format(tmp_path: Path) -> None:
    paths = write_songs(tmp_path, seconds=[90] * 4)
    assert [round(probe(path).seconds) for path in paths] == [90] * 4
