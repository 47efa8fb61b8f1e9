"""What programs write beside a song is told apart by its content and read whole."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.errors import DatasetError
from sidestep_core.layouts.beside import PlainText, found_beside
from sidestep_core.layouts.found import Found, combine
from sidestep_core.sidecars import Sidecar

TAGGED = """\
<CAPTION>
warm pads
and a slow beat
</CAPTION>
<LYRICS>
[Verse]
key: of life
</LYRICS>
<BPM>120</BPM>
<KEYSCALE>C minor</KEYSCALE>
<TIMESIGNATURE>4</TIMESIGNATURE>
<DURATION>180</DURATION>
<LANGUAGE>en</LANGUAGE>
"""


def beside(folder: Path, plain: PlainText | None = None, song: str = "song.wav", **files: Any) -> list[Found]:
    """Return what is found beside a song in files given as ending=text, with `__` for a dot."""
    for ending, text in files.items():
        content = text if isinstance(text, str) else json.dumps(text)
        (folder / (Path(song).stem + ending.replace("__", "."))).write_text(content, encoding="utf-8")
    return found_beside(folder / song, listing(folder), plain)


def listing(folder: Path) -> Collection[str]:
    return [path.name for path in folder.iterdir()]


def said(found: list[Found]) -> dict[str, str]:
    """Return the fields that the files together fill."""
    return {name: value for name, value in attrs.asdict(combine(found)[0]).items() if value}


def test_a_song_alone_has_nothing_beside_it(tmp_path: Path) -> None:
    assert beside(tmp_path) == []


def test_the_files_of_ace_step_are_read(tmp_path: Path) -> None:
    values = {"caption": "J-pop", "bpm": 190, "keyscale": "D major", "timesignature": "4", "language": "ja"}
    assert said(beside(tmp_path, __json=values, __lyrics__txt="[Verse]\n愛")) == {
        **{"caption": "J-pop", "bpm": "190", "key": "D major", "signature": "4", "language": "ja"},
        "lyrics": "[Verse]\n愛",
    }


def test_the_texts_of_the_first_ace_step_are_read(tmp_path: Path) -> None:
    assert said(beside(tmp_path, _prompt__txt="rock, fast", _lyrics__txt="la")) == {
        "caption": "rock, fast",
        "lyrics": "la",
    }


def test_the_texts_of_simpletuner_are_read(tmp_path: Path) -> None:
    assert said(beside(tmp_path, __txt="A slow jazz ballad", __lyrics="la la")) == {
        "caption": "A slow jazz ballad",
        "lyrics": "la la",
    }


def test_a_song_without_lyrics_in_a_simpletuner_folder_has_a_caption(tmp_path: Path) -> None:
    (tmp_path / "other.lyrics").touch()
    assert said(beside(tmp_path, __txt="A slow jazz ballad")) == {"caption": "A slow jazz ballad"}


def test_the_tags_of_ai_toolkit_are_read(tmp_path: Path) -> None:
    assert said(beside(tmp_path, __txt=TAGGED)) == {
        "caption": "warm pads\nand a slow beat",
        "lyrics": "[Verse]\nkey: of life",
        **{"bpm": "120", "key": "C minor", "signature": "4", "duration": "180", "language": "en"},
    }


def test_text_and_tags_that_are_not_known_are_kept(tmp_path: Path) -> None:
    text = "<CAPTION>c</CAPTION>stray <b>\n<SINGER>Ann</SINGER>\n<CAPTION>second</CAPTION><OPEN>x"
    assert said(beside(tmp_path, __txt=text)) == {
        "caption": "c",
        "other": "singer: Ann\nother text: stray <b>\n\n<CAPTION>second</CAPTION><OPEN>x",
    }


def test_a_sidecar_in_which_tags_are_mentioned_is_a_sidecar(tmp_path: Path) -> None:
    assert said(beside(tmp_path, __txt="caption: <CAPTION>c</CAPTION>\n")) == {"caption": "<CAPTION>c</CAPTION>"}


def test_many_open_tags_are_read_in_one_pass(tmp_path: Path) -> None:
    text = "</A></B><CAPTION>c</CAPTION>" + "<A><B>" * 100_000
    found = beside(tmp_path, __txt="<LYRICS>l</LYRICS>" + text)
    assert (found[0].sidecar.caption, found[0].sidecar.lyrics) == ("c", "l")


@pytest.mark.parametrize(
    ("text", "plain", "field"),
    [
        ("[Verse]\nla la", None, "lyrics"),
        ("[Verse]\nla la", "caption", "lyrics"),  # nobody writes that as a caption
        ("slow and warm", "caption", "caption"),
        ("slow and warm", "lyrics", "lyrics"),
    ],
)
def test_a_text_without_keys_is_what_it_looks_like_or_is_said_to_be(
    tmp_path: Path, text: str, plain: PlainText | None, field: str
) -> None:
    assert said(beside(tmp_path, plain, __txt=text)) == {field: text}


def test_a_text_that_may_be_either_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"song\.txt: text without keys.*--plain-text"):
        beside(tmp_path, __txt="slow and warm")


def test_a_sidecar_comes_before_all_else(tmp_path: Path) -> None:
    found = beside(tmp_path, __txt="caption: mine\n", __json={"caption": "theirs", "bpm": 90}, __caption__txt="third")
    together, notes = combine(found)
    assert (together.caption, together.bpm) == ("mine", "90")
    assert notes == [
        "caption in song.json differs from the one in song.txt, which is used",
        "caption in song.caption.txt differs from the one in song.txt, which is used",
    ]


def test_lines_of_no_known_key_come_from_all_files(tmp_path: Path) -> None:
    found = beside(
        tmp_path, __txt="# by hand\nmood: dark\ncaption: c\n", __json={"singer": "Ann", "mood": "dark", "bpm": 9}
    )
    together, notes = combine(found)
    assert (together.other, together.comments, notes) == ("mood: dark\nsinger: Ann", "by hand", [])


def test_what_a_file_holds_that_means_nothing_is_told_with_its_name(tmp_path: Path) -> None:
    assert combine(beside(tmp_path, __json={"caption": {"a": 1}, "bpm": 1}))[1] == [
        "song.json: caption must be text or a number"
    ]


@pytest.mark.parametrize("text", ['{"version": 1}', "[]", '"text"', "1", "null"])
def test_json_about_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    assert beside(tmp_path, __json=text) == []


@pytest.mark.parametrize("text", ["{broken", "", "[" * 100_000, '{"bpm": ' + "9" * 5000 + "}"])
def test_broken_json_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetError, match=r"song\.json: not valid JSON"):
        beside(tmp_path, __json=text)


@pytest.mark.parametrize("ending", [".txt", ".json", ".lyrics", ".caption.txt"])
def test_text_in_another_encoding_is_refused_by_name(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"song{ending}").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match=f"song{ending}: not UTF-8 text"):
        found_beside(tmp_path / "song.wav", listing(tmp_path), "caption")


def test_a_bom_and_windows_line_ends_are_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "song.json").write_bytes(b'\xef\xbb\xbf{"caption": "c"}\r\n')
    (tmp_path / "song.lyrics.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert said(found_beside(tmp_path / "song.wav", listing(tmp_path), None)) == {"caption": "c", "lyrics": "one\ntwo"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_of_song_and_file_may_be_encoded_differently(tmp_path: Path, form: Any) -> None:
    (tmp_path / (unicodedata.normalize(form, "Été") + ".json")).write_text('{"caption": "c"}')
    assert said(found_beside(tmp_path / "Été.wav", listing(tmp_path), None)) == {"caption": "c"}


def test_files_of_a_song_whose_name_begins_alike_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "song.2.json").write_text('{"caption": "other"}')
    (tmp_path / "song.2.txt").write_text("caption: other\n")
    assert beside(tmp_path) == []
    assert said(found_beside(tmp_path / "song.2.wav", listing(tmp_path), None)) == {"caption": "other"}


def test_nothing_found_is_an_empty_sidecar() -> None:
    assert combine([]) == (Sidecar(), [])
