"""`sidestep preprocess` on real audio of every format: what is made, kept, renewed and left out, and the exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from sidestep_core.audio.ffmpeg import find_ffmpeg
from sidestep_core.store.index import open_store

RunCli = Callable[..., Any]
# name: (format, subtype) of libsndfile; what ffmpeg has to write is made from the first
NATIVE = {
    "a.wav": ("WAV", "PCM_16"),
    "b.flac": ("FLAC", "PCM_24"),
    "c.ogg": ("OGG", "VORBIS"),
    "d.opus": ("OGG", "OPUS"),
    "e.mp3": ("MP3", "MPEG_LAYER_III"),
    "sub folder/f.WAV": ("WAV", "FLOAT"),
}
FFMPEG = ("g.m4a", "h.aac")


@attrs.frozen
class Made:
    """A folder with songs and their tensors, and how making them ended."""

    folder: Path
    checkpoints: Path
    code: int
    out: str
    err: str


def write_tone(path: Path, pitch: float, *, rate: int = 48_000, form: tuple[str, str] = ("WAV", "PCM_16")) -> None:
    time = np.arange(int(0.12 * rate)) / rate
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * pitch * time)
    soundfile.write(path, np.stack([tone, tone / 2], axis=1), rate, format=form[0], subtype=form[1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, run_in: Any) -> Made:
    """Return a song of every format made into tensors; read only."""
    folder = tmp_path_factory.mktemp("made")
    for number, (name, form) in enumerate(NATIVE.items()):
        write_tone(folder / "songs" / name, 200 + 50 * number, form=form)
    if program := find_ffmpeg():
        for name in FFMPEG:
            command = [program, "-v", "error", "-i", folder / "songs" / "a.wav", "-t", "0.1", folder / "songs" / name]
            subprocess.run(command, check=True)
    (folder / "songs" / "a.txt").write_text("caption: a slow tone\nlyrics:\nla la\n")
    words = ("--audio-dir", "songs", "--tensor-output", "t", "-c", tiny_checkpoint, "--workers", "1")
    result = run_in(folder, "preprocess", *words, "--device", "cpu", "--precision", "fp32")
    return Made(folder, tiny_checkpoint, result.code, result.out, result.err)


@pytest.fixture
def again(made: Made, run_cli: RunCli, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that preprocesses a copy of the folder, whose tensors are there already."""
    shutil.copytree(made.folder / "songs", tmp_path / "songs")
    shutil.copytree(made.folder / "t", tmp_path / "t")
    words = ("-o", "t", "-c", made.checkpoints, "--workers", "1", "--device", "cpu", "--precision", "fp32")

    def call(*args: str, songs: tuple[str, ...] = ("-i", "songs")) -> Any:
        return run_cli("preprocess", *songs, *words, *args)

    return call


def summary(result: Any) -> str:
    return str(result.out.splitlines()[-1].partition("), ")[0])


@pytest.mark.parametrize("name", NATIVE)
def test_every_format_of_libsndfile_becomes_tensors(made: Made, name: str) -> None:
    song = next(song for song in open_store(made.folder / "t").songs if song.name == name)
    assert 2 <= song.frames <= 4


@pytest.mark.skipif(find_ffmpeg() is None, reason="no ffmpeg")
@pytest.mark.parametrize("name", FFMPEG)
def test_every_format_of_ffmpeg_becomes_tensors(made: Made, name: str) -> None:
    song = next(song for song in open_store(made.folder / "t").songs if song.name == name)
    assert 1 <= song.frames <= 5


def test_all_songs_done_is_exit_code_0_and_says_what_is_next(made: Made) -> None:
    songs = len(open_store(made.folder / "t").songs)
    assert made.code == 0
    assert made.out.startswith(f"{songs} songs ({songs} new, 0 up to date), ")
    assert made.out.endswith("of audio in t\n")
    assert made.err.endswith("next: sidestep train --dataset-dir t --output-dir my_adapter\n")


def test_nothing_is_warned_about(made: Made) -> None:
    assert "warn" not in made.err.lower()


def test_every_stage_is_told_on_stderr(made: Made) -> None:
    songs = len(open_store(made.folder / "t").songs)
    for stage in ("reading", "audio", "captions", "conditioning"):
        assert f"{stage}: {songs} songs\n" in made.err
        assert f"{stage} {songs}/{songs}  " in made.err


def test_the_set_verifies(made: Made, run_cli: RunCli) -> None:
    assert run_cli("tensors", "info", made.folder / "t", "--verify").code == 0


def test_the_set_can_be_trained_on(made: Made, run_cli: RunCli) -> None:
    result = run_cli("train", "-c", made.checkpoints, "-d", made.folder / "t", "-o", "run", "--dry-run")
    assert (result.code, result.err) == (0, "")


def test_a_caption_comes_from_the_sidecar_or_the_file_name(made: Made) -> None:
    prompts = {song.name: song.prompt for song in open_store(made.folder / "t").songs}
    assert "a slow tone" in prompts["a.wav"]
    assert prompts["b.flac"].partition("# Caption\n")[2].startswith("b\n")


def test_a_second_run_does_nothing(made: Made, again: Callable[..., Any]) -> None:
    songs = len(open_store(made.folder / "t").songs)
    result = again()
    assert (result.code, summary(result)) == (0, f"{songs} songs (0 new, {songs} up to date")


def test_a_new_caption_renews_one_song(again: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "songs" / "a.txt").write_text("caption: a fast tone\n")
    latents = sorted((tmp_path / "t" / "latents").iterdir())
    assert "(1 new, " in summary(again())
    assert sorted((tmp_path / "t" / "latents").iterdir()) == latents
    assert "a fast tone" in open_store(tmp_path / "t").songs[0].prompt


def test_a_dataset_file_gives_the_same_songs(again: Callable[..., Any], run_cli: RunCli) -> None:
    run_cli("dataset", "-i", "songs")
    result = again(songs=("--dataset-json", "songs/dataset.json"))
    assert (result.code, "(0 new, " in summary(result)) == (0, True)


def test_a_trigger_tag_is_put_into_every_prompt(again: Callable[..., Any], tmp_path: Path) -> None:
    assert again("--custom-tag", "my style", "--tag-position", "append").code == 0
    songs = open_store(tmp_path / "t").songs
    assert {song.tag for song in songs} == {"my style"}
    assert "a slow tone, my style" in songs[0].prompt


def test_every_event_is_a_line_of_json(again: Callable[..., Any]) -> None:
    lines = [json.loads(line) for line in again("--json").out.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("stage-started", "preprocess-finished")
    assert (lines[-1]["written"], lines[-1]["rejected"]) == (0, [])


@pytest.fixture
def bad(tmp_path: Path) -> Callable[[Path], None]:
    """Return a function that puts files that cannot be used into a folder."""

    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "empty.wav").touch()
        (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(4000))
        soundfile.write(folder / "silent.wav", np.zeros((4800, 2)), 48_000)

    return write


def test_some_songs_left_out_is_exit_code_1_with_a_table(
    again: Callable[..., Any], bad: Callable[[Path], None], tmp_path: Path
) -> None:
    bad(tmp_path / "songs")
    result = again()
    assert result.code == 1
    table = result.err.partition("3 songs left out:\n")[2].splitlines()
    assert table[0].split() == ["SONG", "REASON"]
    reasons = {line.split("  ")[0]: line.rpartition("  ")[2].strip() for line in table[1:4]}
    assert list(reasons) == ["empty.wav", "noise.mp3", "silent.wav"]
    assert (reasons["empty.wav"], "silent" in reasons["silent.wav"]) == ("empty file", True)


def test_rejects_are_in_the_json_with_their_reasons(
    again: Callable[..., Any], bad: Callable[[Path], None], tmp_path: Path
) -> None:
    bad(tmp_path / "songs")
    result = again("--json")
    last = json.loads(result.out.splitlines()[-1])
    assert (result.code, [song["name"] for song in last["rejected"]]) == (1, ["empty.wav", "noise.mp3", "silent.wav"])


def test_no_song_done_is_exit_code_2_and_names_no_next_step(
    run_cli: RunCli, bad: Callable[[Path], None], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    bad(tmp_path / "bad")
    result = run_cli("preprocess", "-i", "bad", "-o", "t", "-c", tiny_checkpoint, "--workers", "1")
    assert (result.code, result.out) == (2, "0 songs (0 new, 0 up to date), 0.0 s of audio in t\n")
    assert "next:" not in result.err


def test_when_no_song_is_done_nothing_is_trained(
    run_cli: RunCli, bad: Callable[[Path], None], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    bad(tmp_path / "bad")
    words = ("--preprocess", "--audio-dir", "bad", "--tensor-output", "t", "-c", tiny_checkpoint, "-o", "run")
    assert run_cli("train", *words).code == 2
    assert not (tmp_path / "run").exists()


def test_when_some_songs_are_left_out_the_others_are_trained(
    made: Made, again: Callable[..., Any], run_cli: RunCli, bad: Callable[[Path], None], tmp_path: Path
) -> None:
    bad(tmp_path / "songs")
    words = ("--preprocess", "--audio-dir", "songs", "--tensor-output", "t", "-c", made.checkpoints, "-o", "run")
    settings = ("--precision", "fp32", "--workers", "1", "--rank", "2", "--max-steps", "1", "--no-target-mlp")
    result = run_cli("train", *words, *settings)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == f"adapter in {Path('run/final')}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-i", "nowhere", "-o", "t"), "no folder 'nowhere'"),
        (("-i", "empty", "-o", "t"), "no audio in 'empty'"),
        (("--dataset-json", "nothing.json", "-o", "t"), "no dataset file 'nothing.json'"),
        (("--dataset-json", "empty", "-o", "t"), "cannot read dataset file 'empty'"),
        (("-i", "songs", "-o", "t", "-M", "turbo"), "no model 'turbo'"),
        (("-i", "songs", "-o", "t", "--device", "gpu"), "no device 'gpu'; there is cpu"),
        (("-i", "songs", "-o", "t", "--normalize", "loud"), "'loud' is not one of 'none', 'peak', 'lufs'"),
        (("-i", "songs", "-o", "t", "--target-db", "3"), "--target-db: must be at most 0, got 3"),
        (("-i", "songs", "-o", "t", "--max-duration", "inf"), "--max-duration: expected a finite number, got inf"),
        (("-i", "songs", "-o", "t", "--tile-seconds", "nan"), "--tile-seconds: expected a finite number, got nan"),
        (("-i", "songs", "-o", "t", "--genre-ratio", "101"), "--genre-ratio: must be at most 100, got 101"),
        (("-i", "songs", "-o", "t", "--workers", "0"), "--workers: must be at least 1, got 0"),
        (("-i", "songs", "-o", "file"), "'file': file exists"),
        (("-i", "songs", "-o", "file/t"), "'file/t': not a directory"),
        (("-i", "songs", "-o", "t", "more"), "Got unexpected extra argument (more)"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    run_cli: RunCli, tmp_path: Path, tiny_checkpoint: Path, words: tuple[str, ...], message: str
) -> None:
    write_tone(tmp_path / "songs" / "a.wav", 200)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    result = run_cli("preprocess", *words, "-c", tiny_checkpoint)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not (tmp_path / "t").exists()


def test_tensors_may_go_into_the_folder_of_the_songs(again: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "t", tmp_path / "songs", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "t")
    (tmp_path / "t").symlink_to(tmp_path / "songs")
    result = again()
    assert (result.code, "(0 new, " in summary(result)) == (0, True)


def test_a_set_of_other_settings_is_made_beside_without_touching_the_songs(
    again: Callable[..., Any], tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "songs").rglob("*") if path.is_file()}
    assert again("--conditioning", "side-step").code == 0
    assert open_store(tmp_path / "t").conditioning == "side-step"
    assert {path: path.read_bytes() for path in (tmp_path / "songs").rglob("*") if path.is_file()} == before
