"""Sidecars are written as other programs read them, and what was written reads back the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest
from sidestep_core.errors import AudioError, ConfigError, DatasetError
from sidestep_core.layouts.convert import plan_conversion, write_conversion
from sidestep_core.layouts.write import LAYOUTS, Layout, Written, write_layout
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar

FULL = Sidecar(
    caption='warm pads\nand a slow beat, "quoted"',
    **{"genre": "ambient", "bpm": "90", "key": "C minor", "signature": "4/4", "language": "ja"},
    is_instrumental="false",
    custom_tag="my style",
    lyrics="[Verse]\n愛, la\nkey: of life\n\n[Chorus]\n🎹",
)
KEPT: dict[Layout, tuple[str, ...]] = {
    "ace-step": tuple(attrs.fields_dict(Sidecar)),
    "csv": tuple(attrs.fields_dict(Sidecar)),
    "ai-toolkit": ("bpm", "key", "signature", "language", "lyrics"),
    "simpletuner": ("lyrics",),
}


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Return a folder with a song of which all is known, one of the same name in a subfolder, and one unknown."""
    folder = tmp_path / "songs"
    (folder / "sub").mkdir(parents=True)
    for name, sidecar in (("a.wav", FULL), ("sub/a.wav", Sidecar(caption="other", bpm="90.5")), ("my_song.mp3", None)):
        (folder / name).touch()
        if sidecar is not None:
            write_sidecar(folder / name, sidecar)
    return folder


def write(songs: Path, layout: Layout) -> tuple[Path, Written]:
    output = songs.parent / layout
    return output, write_layout(songs, layout, output, seconds=lambda path: 183.7)


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.*")}


def test_simpletuner_gets_a_caption_of_one_line_with_its_tag_and_lyrics(songs: Path) -> None:
    folder, written = write(songs, "simpletuner")
    assert texts(folder) == {
        "a.txt": 'my style, warm pads and a slow beat, "quoted"',
        "a.lyrics": FULL.lyrics,
        "sub/a.txt": "other",
        "sub/a.lyrics": "[Instrumental]",
        "my_song.txt": "my song",
        "my_song.lyrics": "[Instrumental]",
    }
    assert (written.files, written.songs, written.problems) == (6, 3, ())


def test_ai_toolkit_gets_tags_which_its_pattern_finds(songs: Path) -> None:
    folder, _ = write(songs, "ai-toolkit")
    found = {
        tag: re.findall(rf"<{tag}>(.*?)</{tag}>", (folder / "a.txt").read_text("utf-8"), re.DOTALL)[0].strip()
        for tag in ("CAPTION", "LYRICS", "BPM", "KEYSCALE", "TIMESIGNATURE", "DURATION", "LANGUAGE")
    }
    assert found == {
        "CAPTION": f"my style, {FULL.caption}",
        "LYRICS": FULL.lyrics,
        **{"BPM": "90", "KEYSCALE": "C minor", "TIMESIGNATURE": "4/4", "DURATION": "183", "LANGUAGE": "ja"},
    }
    assert "<BPM>" not in (folder / "my_song.txt").read_text()


def test_ace_step_gets_a_pair_of_texts_and_numbers_as_json(songs: Path) -> None:
    folder, _ = write(songs, "ace-step")
    found = texts(folder)
    assert (found["a.caption.txt"], found["a.lyrics.txt"]) == (FULL.caption, FULL.lyrics)
    assert json.loads(found["a.json"]) == {
        **{"bpm": 90, "keyscale": "C minor", "timesignature": "4/4", "language": "ja", "genre": "ambient"},
        **{"custom_tag": "my style", "is_instrumental": "false"},
    }
    assert json.loads(found["sub/a.json"]) == {"bpm": "90.5"}
    assert "my_song.caption.txt" not in found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_reads_back_as_the_sidecars_that_it_was_made_of(songs: Path, layout: Layout) -> None:
    folder, _ = write(songs, layout)
    for name in ("a.wav", "sub/a.wav", "my_song.mp3"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    write_conversion(plan_conversion(next(folder.glob("*.csv"), folder)))
    again = read_sidecar(folder / "a.wav")
    assert again is not None
    assert [getattr(again, name) for name in KEPT[layout]] == [getattr(FULL, name) for name in KEPT[layout]]


def test_a_closing_tag_in_a_text_is_told(songs: Path) -> None:
    write_sidecar(songs / "a.wav", Sidecar(caption="c", lyrics="[Verse]\n</LYRICS>"))
    _, written = write(songs, "ai-toolkit")
    assert [problem.reason for problem in written.problems] == [
        "a text holds a closing tag, which ends it there for ai-toolkit"
    ]


def test_a_length_that_cannot_be_told_is_left_out_and_reported(songs: Path) -> None:
    def refuse(path: Path) -> float:
        raise AudioError("empty file")

    written = write_layout(songs, "ai-toolkit", songs.parent / "out", seconds=refuse)
    assert {problem.reason for problem in written.problems} == {"its length is not written: empty file"}
    assert "DURATION" not in (songs.parent / "out" / "a.txt").read_text("utf-8")


def test_a_sidecar_that_cannot_be_read_costs_itself_alone(songs: Path) -> None:
    (songs / "a.txt").write_bytes(b"caption: caf\xe9")
    folder, written = write(songs, "csv")
    assert ["not UTF-8 text" in problem.reason for problem in written.problems] == [True]
    assert "sub/a.wav" in (folder / "captions.csv").read_text("utf-8")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_songs_and_their_sidecars_stay_as_they_are(songs: Path, layout: Layout) -> None:
    before = texts(songs)
    write(songs, layout)
    assert texts(songs) == before


def test_a_folder_with_something_in_it_is_refused(songs: Path) -> None:
    with pytest.raises(ConfigError, match="is there and not empty"):
        write_layout(songs, "csv", songs, seconds=lambda path: 1.0)
    assert read_sidecar(songs / "a.wav") == FULL


def test_a_folder_without_songs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no songs with readable sidecars"):
        write_layout(tmp_path, "csv", tmp_path / "out", seconds=lambda path: 1.0)
    assert not (tmp_path / "out").exists()
