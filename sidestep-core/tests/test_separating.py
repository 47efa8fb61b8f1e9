"""Songs taken apart: what is written, left alone and refused."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import soundfile
from sidestep_core import hookimpl
from sidestep_core.errors import Cancelled, CheckpointError, ConfigError, DatasetError
from sidestep_core.events import Event, SongFinished, SongRejected, StageStarted, StemsFinished
from sidestep_core.requests import Choice
from sidestep_core.separating import NOTE, StemsConfig
from sidestep_core.specs import BuildContext, SeparatorType
from sidestep_core.testing.providers import write_tone
from sidestep_core.toolkit import Toolkit

RATE = 44100


class Halves:
    """Gives the two halves of the loudness of a song; asks once whether to stop."""

    rate = RATE

    def __init__(self, config: Any, context: BuildContext) -> None:
        self.entered = False

    def __enter__(self) -> Self:
        if os.environ.get("HALVES") == "missing":
            raise CheckpointError("no weights of halves")
        self.entered = True
        return self

    def __exit__(self, *error: object) -> None:
        self.entered = False

    def separate(self, audio: Any, cancelled: Callable[[], bool]) -> Mapping[str, Any]:
        assert self.entered
        if cancelled():
            raise Cancelled("stopped")
        length = round(audio.shape[1] * RATE / 48000)
        return {"vocals": np.full((2, length), 0.25, np.float32), "other": np.full((2, length), 2.0, np.float32)}


class Plugin:
    """Offers `halves`."""

    sidestep_api = 1

    @hookimpl
    def sidestep_separators(self) -> list[SeparatorType]:
        return [SeparatorType(name="halves", summary="Two halves", target="halves_for_tests:Halves")]


@pytest.fixture(autouse=True)
def _halves() -> Iterator[None]:
    module = types.ModuleType("halves_for_tests")
    module.Halves = Halves  # type: ignore[attr-defined]
    sys.modules["halves_for_tests"] = module
    yield
    del sys.modules["halves_for_tests"]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Two songs, one in a folder of its own."""
    root = tmp_path / "songs"
    (root / "Ålbum").mkdir(parents=True)
    write_tone(root / "a.wav", 0.5)
    write_tone(root / "Ålbum" / "b.wav", 1.0)
    return root


def run(root: Path | None, cancelled: Callable[[], bool] = lambda: False, **settings: Any) -> list[Event]:
    """Return what happens when songs are taken apart."""
    toolkit = Toolkit(plugins={"halves": Plugin()}, entry_points=False)
    return list(toolkit.separate(StemsConfig(input=root, **settings), Choice(name="halves"), cancelled=cancelled))


def tree(folder: Path) -> list[str]:
    """Return the files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_song_has_a_folder_beside_the_songs(songs: Path, tmp_path: Path) -> None:
    events = run(songs)
    assert tree(tmp_path / "songs_stems") == [
        "a/other.flac",
        "a/stems.json",
        "a/vocals.flac",
        "Ålbum/b/other.flac",
        "Ålbum/b/stems.json",
        "Ålbum/b/vocals.flac",
    ]
    assert events[0] == StageStarted(stage="separate", total=2)
    assert [event.name for event in events if isinstance(event, SongFinished)] == ["a.wav", "Ålbum/b.wav"]
    assert events[-1] == StemsFinished(written=2, complete=0, rejected=(), output=tmp_path / "songs_stems")


def test_stems_are_flac_at_the_separators_rate(songs: Path, tmp_path: Path) -> None:
    run(songs, output=tmp_path / "out")
    info = soundfile.info(tmp_path / "out" / "a" / "vocals.flac")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_24", RATE, 2)
    assert info.frames == RATE // 2
    audio, _ = soundfile.read(tmp_path / "out" / "a" / "other.flac")
    assert audio.max() == pytest.approx(1.0, abs=1e-6)  # what exceeds full scale is cut there


def test_what_is_there_is_left_alone(songs: Path, tmp_path: Path) -> None:
    run(songs)
    vocals = tmp_path / "songs_stems" / "a" / "vocals.flac"
    vocals.write_text("mine")
    events = run(songs)
    assert events == [
        StageStarted(stage="separate", total=0),
        StemsFinished(written=0, complete=2, rejected=(), output=tmp_path / "songs_stems"),
    ]
    assert vocals.read_text() == "mine"


@pytest.mark.parametrize("change", ["song", "stem", "note"])
def test_what_is_not_whole_or_of_other_audio_is_made_anew(songs: Path, tmp_path: Path, change: str) -> None:
    run(songs)
    place = tmp_path / "songs_stems" / "a"
    if change == "song":
        write_tone(songs / "a.wav", 0.7)
    elif change == "stem":
        (place / "vocals.flac").unlink()
    else:
        (place / NOTE).write_text("[]")
    assert run(songs)[0] == StageStarted(stage="separate", total=1)
    assert json.loads((place / NOTE).read_text())["files"] == ["vocals.flac", "other.flac"]
    assert tree(place) == ["other.flac", "stems.json", "vocals.flac"]


def test_everything_is_made_anew_if_asked(songs: Path) -> None:
    run(songs)
    assert run(songs, overwrite=True)[0] == StageStarted(stage="separate", total=2)


def test_songs_that_differ_in_their_ending_alone_keep_apart(songs: Path, tmp_path: Path) -> None:
    write_tone(songs / "a.aac.wav", 0.4)
    (songs / "a.flac").write_bytes((songs / "a.wav").read_bytes())
    run(songs)
    folders = {path.name for path in (tmp_path / "songs_stems").iterdir()}
    assert folders == {"a.wav", "a.flac", "a.aac", "Ålbum"}


def test_a_bad_song_costs_itself_alone(songs: Path, tmp_path: Path) -> None:
    (songs / "a.wav").write_text("no audio")
    events = run(songs)
    rejected = [event for event in events if isinstance(event, SongRejected)]
    assert [event.name for event in rejected] == ["a.wav"]
    assert events[-1] == StemsFinished(written=1, complete=0, rejected=tuple(rejected), output=tmp_path / "songs_stems")


def test_stopping_keeps_finished_songs_and_leaves_nothing_half(songs: Path, tmp_path: Path) -> None:
    asked: list[int] = []
    with pytest.raises(Cancelled):
        run(songs, cancelled=lambda: not asked.append(1) and len(asked) > 3)
    assert {path.parent.name for path in (tmp_path / "songs_stems").rglob("*") if path.is_file()} == {"a"}


def test_missing_weights_are_said_before_a_song_is_decoded(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALVES", "missing")
    with pytest.raises(CheckpointError, match="no weights of halves"):
        run(songs)


@pytest.mark.parametrize("inside", [".", "stems", "Ålbum/../stems"])
def test_stems_do_not_land_among_the_songs(songs: Path, inside: str) -> None:
    with pytest.raises(ConfigError, match="lies in the folder of songs"):
        run(songs, output=songs / inside)


def test_no_folder_and_an_empty_one_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --input"):
        run(None)
    with pytest.raises(DatasetError, match="no audio in"):
        run(tmp_path)
