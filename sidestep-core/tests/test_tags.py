"""Tags are edited whole, once, and only where something changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sidestep_core.errors import DatasetError
from sidestep_core.files import AUDIO_EXTENSIONS
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar
from sidestep_core.tags import TagChange, edit_tags, list_tags


def song(root: Path, name: str = "song.wav", **fields: str) -> Path:
    """Make a song, with a sidecar if fields are given."""
    audio = root / name
    audio.parent.mkdir(parents=True, exist_ok=True)
    audio.touch()
    if fields:
        write_sidecar(audio, Sidecar(**fields))
    return audio


def tag_of(audio: Path) -> str:
    sidecar = read_sidecar(audio)
    return "" if sidecar is None else sidecar.custom_tag


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        ("", {"operation": "add", "tag": "new"}, "new"),
        ("a", {"operation": "add", "tag": "new"}, "new, a"),
        ("a", {"operation": "add", "tag": "new", "position": "append"}, "a, new"),
        ("a", {"operation": "add", "tag": "new", "position": "replace"}, "new"),
        ("a, b", {"operation": "add", "tag": "b, c"}, "c, a, b"),
        ("a", {"operation": "set", "tag": "x, y"}, "x, y"),
        ("rock, rock ballad, hard rock", {"operation": "remove", "tag": "rock"}, "rock ballad, hard rock"),
        ("a, b, c", {"operation": "remove", "tag": "c, a"}, "b"),
        ("a, b", {"operation": "clear"}, ""),
    ],
)
def test_an_edit_changes_whole_tags(tmp_path: Path, before: str, edit: dict[str, Any], after: str) -> None:
    audio = song(tmp_path, custom_tag=before, caption="c")
    edit_tags(tmp_path, **edit)
    assert tag_of(audio) == after


@pytest.mark.parametrize(
    "edit",
    [
        {"operation": "add", "tag": " b "},
        {"operation": "add", "tag": "b", "position": "append"},
        {"operation": "remove", "tag": "other"},
        {"operation": "set", "tag": "a,b"},
    ],
)
def test_an_edit_without_effect_touches_no_file(tmp_path: Path, edit: dict[str, Any]) -> None:
    audio = song(tmp_path, custom_tag="a, b")
    before = audio.with_suffix(".txt").stat()
    assert edit_tags(tmp_path, **edit) == []
    after = audio.with_suffix(".txt").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_everything_else_in_the_sidecar_stays(tmp_path: Path) -> None:
    audio = song(tmp_path, caption="a: b\nMood: dark", lyrics="key: not a key", comments="mine", bpm="90")
    edit_tags(tmp_path, "add", "new")
    assert read_sidecar(audio) == Sidecar(
        caption="a: b\nMood: dark", lyrics="key: not a key", comments="mine", bpm="90", custom_tag="new"
    )


def test_plain_lyrics_and_pairs_stay_when_a_tag_is_added(tmp_path: Path) -> None:
    plain, pair = song(tmp_path, "plain.wav"), song(tmp_path, "pair.wav")
    plain.with_suffix(".txt").write_text("[Verse]\nla\n")
    pair.with_suffix(".caption.txt").write_text("warm")
    edit_tags(tmp_path, "add", "new")
    assert read_sidecar(plain) == Sidecar(lyrics="[Verse]\nla", custom_tag="new")
    assert read_sidecar(pair) == Sidecar(caption="warm", custom_tag="new")


def test_every_kind_of_audio_in_every_folder_is_edited(tmp_path: Path) -> None:
    songs = [song(tmp_path, f"{n}/deep/song{suffix}") for n, suffix in enumerate(sorted(AUDIO_EXTENSIONS))]
    assert len(edit_tags(tmp_path, "add", "new")) == 7
    assert [tag_of(audio) for audio in songs] == ["new"] * 7


def test_removing_from_a_song_without_a_sidecar_makes_none(tmp_path: Path) -> None:
    audio = song(tmp_path)
    assert edit_tags(tmp_path, "remove", "x") == edit_tags(tmp_path, "clear") == []
    assert not audio.with_suffix(".txt").exists()


def test_a_sidecar_of_two_songs_is_edited_once(tmp_path: Path) -> None:
    audio = song(tmp_path, "song.wav", custom_tag="a")
    song(tmp_path, "song.mp3")
    lines = ("-custom_tag: a", "+custom_tag: b, a")
    assert edit_tags(tmp_path, "add", "b") == [TagChange(audio.with_suffix(".txt"), ("a",), ("b", "a"), lines)]


def test_the_older_name_of_the_tag_becomes_the_newer(tmp_path: Path) -> None:
    audio = song(tmp_path, trigger="old")
    edit_tags(tmp_path, "add", "new")
    assert read_sidecar(audio) == Sidecar(custom_tag="new, old")


def test_a_dry_run_tells_the_changes_and_makes_none(tmp_path: Path) -> None:
    audio = song(tmp_path, custom_tag="a")
    song(tmp_path, "new.wav")
    assert [(c.path, c.before, c.after) for c in edit_tags(tmp_path, "add", "b", dry_run=True)] == [
        (tmp_path / "new.txt", (), ("b",)),
        (tmp_path / "song.txt", ("a",), ("b", "a")),
    ]
    assert tag_of(audio) == "a"
    assert not (tmp_path / "new.txt").exists()


def test_a_change_shows_the_lines_of_the_file_that_go_and_come(tmp_path: Path) -> None:
    audio = song(tmp_path)
    lyrics = "lyrics:\n" + "la la\n" * 5000
    audio.with_suffix(".txt").write_text("caption: c\ntempo: 90\ntrigger: old\n" + lyrics)
    (change,) = edit_tags(tmp_path, "add", "new", dry_run=True)
    assert change.lines == (
        *("-tempo: 90", "-trigger: old"),
        *("+genre: ", "+bpm: 90", "+key: ", "+signature: ", "+is_instrumental: ", "+custom_tag: new, old"),
    )


def test_a_sidecar_that_cannot_be_read_stops_the_edit_before_it_begins(tmp_path: Path) -> None:
    audio = song(tmp_path, "a.wav", custom_tag="a")
    for n in range(5):
        song(tmp_path, f"bad{n}.wav").with_suffix(".txt").write_bytes(b"\xff")
    with pytest.raises(DatasetError, match=r"bad0\.txt: not UTF-8 .*\n.*bad1.*\n.*bad2.*\n  and 2 more"):
        edit_tags(tmp_path, "add", "new")
    assert tag_of(audio) == "a"


@pytest.mark.parametrize("tag", ["", " , ,"])
def test_an_edit_needs_a_tag(tmp_path: Path, tag: str) -> None:
    song(tmp_path)
    with pytest.raises(DatasetError, match="no tag to add"):
        edit_tags(tmp_path, "add", tag)


def test_all_songs_are_listed_with_their_tags(tmp_path: Path) -> None:
    song(tmp_path, "b/two.wav", custom_tag="x,  long   tag,x")
    song(tmp_path, "a/one.wav")
    assert [(t.path.name, t.tags) for t in list_tags(tmp_path)] == [("one.wav", ()), ("two.wav", ("x", "long tag"))]
