"""Files that cannot be used, and unusual ones that can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from sidestep_core.configs import PreprocessConfig
from sidestep_core.errors import StoreError
from sidestep_core.events import Event, PreprocessFinished, SongRejected
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.preprocess.run import preprocess
from sidestep_core.store.index import open_store


def write_clip(
    path: Path, *, seconds: float = 0.1, rate: int = 48_000, channels: int = 2, pitch: float = 220.0
) -> Path:
    """Write a tone with a little noise; every pitch is another content."""
    time = np.arange(int(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * np.random.default_rng(0).standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, format="WAV", subtype="FLOAT")
    return path


def run(
    model: ModelFolder, songs: Path, out: Path, *, cancelled: Callable[[], bool] = lambda: False, **settings: Any
) -> list[Event]:
    """Run preprocessing to its end and return its events."""
    config = PreprocessConfig(audio_dir=songs, tensor_output=out, workers=1, **settings)
    return list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=cancelled))


def finished(events: list[Event]) -> PreprocessFinished:
    """Return the last event."""
    assert isinstance(events[-1], PreprocessFinished)
    return events[-1]


def times(folder: Path) -> dict[str, int]:
    """Return the time of change of every file."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@attrs.frozen
class Made:
    """Songs, their set and what was told while it was made."""

    songs: Path
    out: Path
    events: list[Event]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> ModelFolder:
    """The tiny base model."""
    return resolve_model(tiny_checkpoint, "base")


BAD = {
    "empty.wav": "empty file",
    "gone.wav": "cannot be read: no such file",
    "nan.wav": "NaN or infinite",
    "noise.mp3": "",
    "sample.wav": "too short",
    "silent.wav": "silent",
    "truncated.wav": "truncated",
}
GOOD = ("eight channels.wav", "mono.wav", "wrong extension.mp3")


@pytest.fixture(scope="module")
def matrix(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every kind of bad file, and unusual good ones; read only."""
    folder = tmp_path_factory.mktemp("matrix")
    songs = folder / "songs"
    songs.mkdir()
    (songs / "empty.wav").write_bytes(b"")
    (songs / "gone.wav").symlink_to(folder / "nowhere.wav")
    broken = np.zeros((4800, 2))
    broken[100] = np.nan
    soundfile.write(songs / "nan.wav", broken, 48_000, subtype="FLOAT")
    (songs / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    soundfile.write(songs / "sample.wav", np.ones((1, 2)), 48_000)
    soundfile.write(songs / "silent.wav", np.zeros((9600, 2)), 48_000)
    whole = write_clip(songs / "truncated.wav", seconds=1).read_bytes()
    (songs / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    write_clip(songs / "eight channels.wav", channels=8, pitch=100)
    write_clip(songs / "mono.wav", channels=1, rate=22_050, pitch=200)
    write_clip(songs / "wrong extension.mp3", pitch=300)
    return Made(songs, folder / "out", run(model, songs, folder / "out"))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_costs_itself_and_says_why(matrix: Made, name: str) -> None:
    reasons = {event.name: event.reason for event in matrix.events if isinstance(event, SongRejected)}
    assert BAD[name] in reasons[name]
    assert "\n" not in reasons[name]


def test_unusual_files_are_used_all_the_same(matrix: Made) -> None:
    end = finished(matrix.events)
    assert {song.name for song in end.rejected} == set(BAD)
    assert (end.written, end.kept) == (len(GOOD), 0)
    assert tuple(song.name for song in open_store(matrix.out).songs) == GOOD


def test_rejected_songs_are_tried_again_and_the_rest_is_kept(matrix: Made, model: ModelFolder) -> None:
    before = times(matrix.out)
    end = finished(run(model, matrix.songs, matrix.out))
    assert (end.written, end.kept, len(end.rejected)) == (0, len(GOOD), len(BAD))
    assert times(matrix.out) == before


def test_when_all_songs_are_rejected_the_run_still_ends(model: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").write_bytes(b"")
    end = finished(run(model, tmp_path / "songs", tmp_path / "out"))
    assert (end.written, end.kept, len(end.rejected)) == (0, 0, 1)
    with pytest.raises(StoreError, match="no finished song"):
        open_store(tmp_path / "out")


def test_a_song_that_a_dataset_file_lists_and_nobody_has_is_rejected(model, tmp_path):
    write_clip(tmp_path / "here.wav")
    samples = [{"audio_path": "here.wav"}, {"audio_path": "gone.wav"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"samples": samples}), "utf-8")
    report = finished(run(model, tmp_path, tmp_path / "out", dataset_json=tmp_path / "dataset.json"))
    assert report.written == 1
    assert [r.reason for r in report.rejected] == [f"samples[1]: no file 'gone.wav' and no 'gone.wav' in '{tmp_path}'"]
