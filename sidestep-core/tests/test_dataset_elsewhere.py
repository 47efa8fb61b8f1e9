"""Dataset files as other programs go about them: by their rules, which are written down here."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.dataset import scan_folder, write_dataset
from sidestep_core.prompts import genre_choice
from sidestep_core.sidecars import Sidecar, write_sidecar

TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "audio_path", "filename", "caption", "genre", "lyrics", "raw_lyrics"), str),
    **dict.fromkeys(("formatted_lyrics", "keyscale", "timesignature", "language", "custom_tag"), str),
    **dict.fromkeys(("duration", "repeat"), int),
    **dict.fromkeys(("is_instrumental", "labeled"), bool),
    "bpm": (int, type(None)),
    "prompt_override": (str, type(None)),
}


def load(json_path: Path) -> dict[Path, dict[str, Any]]:
    """Return the samples whose audio is found: the path as seen from the file's folder, or its name there."""
    content = json.loads(json_path.read_text(encoding="utf-8"))  # with a BOM this would fail
    found = {}
    for sample in content["samples"]:
        given = Path(sample.get("audio_path") or sample.get("filename"))
        places = (given if given.is_absolute() else json_path.parent / given, json_path.parent / sample["filename"])
        path = next(path for path in places if path.is_file())
        found[path.resolve()] = sample
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of songs with odd names and odd words."""
    root = tmp_path / "songs"
    words = Sidecar(
        caption="夜 🎹\nbpm: high", bpm="84.7", lyrics="[Verse]\nkey: of life\n愛", genre="rock", repeat="2"
    )
    for name in ("夜に駆ける.wav", "a/song.wav", "b/song.wav", "with space & 'quote'.flac", "no-words_here.mp3"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("夜に駆ける.wav", "a/song.wav"):
        write_sidecar(root / name, words)
    write_sidecar(root / "b/song.wav", Sidecar(bpm="fast", is_instrumental="true", prompt_override="genre"))
    return root


def write(folder: Path, path: Path, **settings: Any) -> dict[Path, dict[str, Any]]:
    write_dataset(attrs.evolve(scan_folder(folder), **settings), path, created_at="now", seconds=lambda _: 61.9)
    return load(path)


@pytest.mark.parametrize("place", ["songs/dataset.json", "dataset.json", "lists/deep/dataset.json"])
def test_every_song_is_found_from_wherever_the_file_stands(folder: Path, place: str) -> None:
    found = write(folder, folder.parent / place)
    assert sorted(found) == sorted(song.path.resolve() for song in scan_folder(folder).songs)


def test_every_value_has_the_type_that_other_programs_expect(folder: Path) -> None:
    for sample in write(folder, folder / "dataset.json").values():
        assert sample.keys() == TYPES.keys()
        assert [name for name, value in sample.items() if not isinstance(value, TYPES[name])] == []


def test_songs_of_one_name_have_words_and_numbers_of_their_own(folder: Path) -> None:
    found = write(folder, folder / "dataset.json")
    one, other = (found[folder / name / "song.wav"] for name in "ab")
    assert (one["caption"], one["bpm"], one["is_instrumental"]) == ("夜 🎹\nbpm: high", 84, False)
    assert (other["caption"], other["bpm"], other["is_instrumental"]) == ("song", None, True)
    assert len({sample["id"] for sample in found.values()}) == len(found)


def test_words_arrive_as_they_were_written(folder: Path) -> None:
    sample = write(folder, folder / "dataset.json")[folder / "夜に駆ける.wav"]
    assert sample["lyrics"] == sample["raw_lyrics"] == "[Verse]\nkey: of life\n愛"
    assert (sample["genre"], sample["repeat"], sample["duration"]) == ("rock", 2, 61)


def test_the_tag_of_the_set_stands_in_every_sample(folder: Path) -> None:
    found = write(folder, folder / "dataset.json", custom_tag="zed")
    assert {sample["custom_tag"] for sample in found.values()} == {"zed"}


@pytest.mark.parametrize("ratio", [0, 1, 33, 50, 100])
@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_the_songs_described_by_genre_are_those_of_other_programs(count: int, ratio: int) -> None:
    order = list(range(count))
    random.Random(42).shuffle(order)
    assert genre_choice(count, ratio) == set(order[: int(count * ratio / 100)])
