"""`sidestep dataset` on real folders: the file, its numbers, and what is said about songs that are odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sidestep_core.dataset import read_dataset

RunCli = Callable[..., Any]


def write_song(path: Path, seconds: float = 0.5, **fields: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((int(8000 * seconds), 1), 0.1), 8000)
    lyrics = fields.pop("lyrics", "")
    lines = [f"{key}: {value}" for key, value in fields.items()] + (["lyrics:", lyrics] if lyrics else [])
    if lines:
        path.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Return a folder of three songs, one in a subfolder, one without a sidecar."""
    folder = tmp_path / "songs"
    write_song(folder / "a.wav", 2.6, caption="slow", bpm="90", key="A minor", lyrics="la la", custom_tag="own")
    write_song(folder / "my_little-song.flac")
    write_song(folder / "live" / "b.wav", 1.0, caption="loud", genre="rock", repeat="3")
    return folder


def samples(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text("utf-8"))["samples"]  # type: ignore[no-any-return]


def test_what_is_written_reads_back_as_the_songs_of_the_folder(run_cli: RunCli, songs: Path) -> None:
    assert run_cli("dataset", "--input", songs).code == 0
    found = {song.name: song for song in read_dataset(songs / "dataset.json").songs}
    assert list(found) == ["a.wav", "live/b.wav", "my_little-song.flac"]
    assert (found["a.wav"].caption, found["a.wav"].lyrics, found["a.wav"].bpm) == ("slow", "la la", "90")
    assert found["live/b.wav"].repeat == 3
    assert found["my_little-song.flac"].caption == "my little song"


def test_paths_are_seen_from_the_file(run_cli: RunCli, songs: Path, tmp_path: Path) -> None:
    run_cli("dataset", "-i", songs, "--output", "lists/mine.json")
    assert [sample["audio_path"] for sample in samples(tmp_path / "lists" / "mine.json")] == [
        "../songs/a.wav",
        "../songs/live/b.wav",
        "../songs/my_little-song.flac",
    ]
    assert len(read_dataset(tmp_path / "lists" / "mine.json").songs) == 3


def test_lengths_are_whole_seconds(run_cli: RunCli, songs: Path) -> None:
    run_cli("dataset", "-i", songs)
    assert [sample["duration"] for sample in samples(songs / "dataset.json")] == [2, 1, 0]


def test_settings_of_the_set_are_written(run_cli: RunCli, songs: Path) -> None:
    run_cli("dataset", "-i", songs, "--tag", "style", "--tag-position", "append", "--genre-ratio", "30", "--name", "x")
    found = read_dataset(songs / "dataset.json")
    assert (found.name, found.custom_tag, found.tag_position, found.genre_ratio) == ("x", "style", "append", 30)


def test_a_song_keeps_its_own_tag(run_cli: RunCli, songs: Path) -> None:
    run_cli("dataset", "-i", songs, "--tag", "style")
    assert [sample["custom_tag"] for sample in samples(songs / "dataset.json")] == ["own", "style", "style"]


def test_running_it_again_gives_the_same_songs(run_cli: RunCli, songs: Path) -> None:
    run_cli("dataset", "-i", songs)
    first = samples(songs / "dataset.json")
    run_cli("dataset", "-i", songs)
    assert samples(songs / "dataset.json") == first


def test_nothing_but_the_file_is_written(run_cli: RunCli, songs: Path) -> None:
    before = {path: path.read_bytes() for path in songs.rglob("*") if path.is_file()}
    run_cli("dataset", "-i", songs, "--tag", "style")
    after = {path: path.read_bytes() for path in songs.rglob("*") if path.is_file()}
    assert set(after) - set(before) == {songs / "dataset.json"}
    assert {path: after[path] for path in before} == before


def test_an_unusable_value_is_a_warning_and_exit_code_1(run_cli: RunCli, songs: Path) -> None:
    write_song(songs / "c.wav", repeat="often", caption="odd")
    result = run_cli("dataset", "-i", songs)
    assert (result.code, result.out) == (1, f"4 songs in {Path('songs/dataset.json')}\n")
    assert "c.wav: repeat is 'often'; it must be a whole number of at least 1" in result.err


def test_a_sidecar_in_another_encoding_is_a_warning_and_the_song_stays(run_cli: RunCli, songs: Path) -> None:
    (songs / "a.txt").write_bytes(b"caption: caf\xe9\n")
    result = run_cli("dataset", "-i", songs)
    assert result.code == 1
    assert "not UTF-8 text" in result.err
    assert len(samples(songs / "dataset.json")) == 3


def test_a_file_that_is_no_audio_is_listed_with_no_length(run_cli: RunCli, songs: Path) -> None:
    (songs / "noise.wav").write_bytes(b"not audio at all" * 10)
    result = run_cli("dataset", "-i", songs)
    assert result.code == 1
    assert result.err.count("warning: ") == 1
    assert {s["filename"]: s["duration"] for s in samples(songs / "dataset.json")}["noise.wav"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Missing option '-i' / '--input'"),
        (("-i", "nowhere"), "no folder 'nowhere'"),
        (("-i", "empty"), "no audio in 'empty'; looked for .aac .flac .m4a .mp3 .ogg .opus .wav"),
        (("-i", "songs/a.wav"), "'songs/a.wav' is not a folder"),
        (("-i", "songs", "--genre-ratio", "101"), "101 is not in the range 0<=x<=100"),
        (("-i", "songs", "--genre-ratio", "half"), "'half' is not a valid integer"),
        (("-i", "songs", "--tag-position", "first"), "'first' is not one of 'prepend', 'append', 'replace'"),
    ],
)
@pytest.mark.usefixtures("songs")
def test_what_cannot_be_listed_is_refused(
    run_cli: RunCli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = run_cli("dataset", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert message in result.err


@pytest.mark.parametrize("output", ["songs", "songs/a.wav/list.json"])
def test_a_place_that_cannot_be_written_is_an_error_of_one_line(run_cli: RunCli, songs: Path, output: str) -> None:
    result = run_cli("dataset", "-i", songs, "--output", output)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert [path.name for path in songs.parent.iterdir() if path.name.endswith(".tmp")] == []


def test_hidden_files_are_no_songs(run_cli: RunCli, songs: Path) -> None:
    write_song(songs / "._a.wav")
    write_song(songs / ".trash" / "z.wav")
    assert run_cli("dataset", "-i", songs).out.startswith("3 songs")
