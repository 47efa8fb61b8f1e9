"""`sidestep audio-analyze` on songs of which tempo and key are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from known_songs import synth
from known_songs.compose import compose, plan
from sidestep_core.sidecars import read_sidecar

RunCli = Callable[..., Any]
CLIP = plan(31)[3]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a song of a quarter of a minute."""
    path = tmp_path_factory.mktemp("song") / "house.wav"
    soundfile.write(path, synth.play(CLIP, compose(CLIP, 16.0)), synth.RATE)
    return path


@pytest.fixture
def songs(tmp_path: Path, song: Path) -> Path:
    """Return a folder with the song alone."""
    (tmp_path / "songs").mkdir()
    shutil.copy(song, tmp_path / "songs")
    return tmp_path / "songs"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, song: Path, run_in: RunCli) -> tuple[Path, Any]:
    """Return a folder with the song and a file that is no audio, and how measuring it ended."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copy(song, folder)
    (folder / "bad.mp3").write_text("no audio")
    return folder, run_in(folder, "audio-analyze", "--input", ".", "--workers", "1")


def test_the_published_line_measures_a_folder(measured: tuple[Path, Any]) -> None:
    folder, result = measured
    sidecar = read_sidecar(folder / "house.wav")
    assert sidecar is not None
    assert (sidecar.bpm, sidecar.key, sidecar.signature) == (str(round(CLIP.bpm)), CLIP.key, "4/4")
    assert result.out.split() == ["house.wav", sidecar.bpm, "4/4", *CLIP.key.split()]


def test_a_bad_file_is_named_and_the_code_is_1(measured: tuple[Path, Any]) -> None:
    _, result = measured
    assert result.code == 1
    assert result.err.splitlines()[0] == "measuring 2 songs"
    assert "warning: bad.mp3: " in result.err
    assert result.err.splitlines()[-1] == "1 sidecar written, 1 song could not be measured"


def test_only_bad_files_are_code_2(run_cli: RunCli, songs: Path) -> None:
    (songs / "house.wav").write_text("no audio")
    assert run_cli("audio-analyze", "-i", songs).code == 2


def test_a_second_run_finds_nothing_to_do(run_cli: RunCli, songs: Path) -> None:
    (songs / "house.txt").write_text("bpm: 90\nkey: C major\nsignature: 3/4\n")
    result = run_cli("audio-analyze", "-i", songs)
    assert (result.code, result.out) == (0, "")
    assert result.err == "0 sidecars written, 1 song said everything already\n"


def test_json_has_a_line_for_each_song_with_confidence(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("audio-analyze", "-i", songs, "--json", "--dry-run", "--workers", "1")
    lines = {line["event"]: line for line in map(json.loads, result.out.splitlines())}
    found = lines["song-measured"]["found"]
    assert found["key"]["value"] == CLIP.key
    assert found["bpm"]["confidence"] in ("high", "medium")
    assert lines["measure-finished"]["dry_run"] is True
    assert not (songs / "house.txt").exists()


def test_what_is_doubtful_is_marked_and_not_written(run_cli: RunCli, songs: Path) -> None:
    # a second of it has a key, but no rhythm
    audio, rate = soundfile.read(songs / "house.wav")
    soundfile.write(songs / "house.wav", audio[:rate], rate)
    result = run_cli("audio-analyze", "-i", songs)
    assert "no bpm  no signature" in result.out
    assert "something doubtful, which is not written" in result.err


def test_a_missing_folder_is_one_line(run_cli: RunCli) -> None:
    result = run_cli("audio-analyze", "-i", "nowhere")
    assert (result.code, result.err) == (2, "error: no folder 'nowhere'\n")


def test_an_unknown_analyzer_is_one_line_with_what_there_is(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("audio-analyze", "-i", songs, "--analyzer", "ears")
    assert result.code == 2
    assert "signal" in result.err
