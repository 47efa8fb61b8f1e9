"""What holds for sidecars whatever anybody writes: on disk, merged, tagged and between neighbours."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidestep_core.dataset import scan_folder
from sidestep_core.sidecars import (
    MergePolicy,
    Sidecar,
    merge,
    parse,
    read_sidecar,
    render,
    sidecar_path,
    sidecar_text,
    write_sidecar,
)
from sidestep_core.songs import make_song
from sidestep_core.tags import edit_tags, split_tags, tags_of

FIELDS = tuple(attrs.fields_dict(Sidecar))
POLICIES: tuple[MergePolicy, ...] = ("fill_missing", "overwrite_caption", "overwrite_lyrics", "overwrite_all")
LINES = st.one_of(
    st.sampled_from(
        ["bpm: 90", "\tKEY : C", "Mood: dark", "# note", "\\key: x", "lyrics:", "[Verse]", "é", "e\u0301", ""]
    ),
    st.text(max_size=10),
)
TEXTS = st.lists(LINES, max_size=4).map("\n".join)
SIDECARS = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, TEXTS)).map(lambda fields: Sidecar(**fields))
TAGS = st.text(alphabet="ab é,", max_size=6)
PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
ON_DISK = settings(PATIENT, max_examples=30)


def in_folder(work: Callable[[Path], None]) -> None:
    """Do something in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder))


@ON_DISK
@given(SIDECARS, SIDECARS)
def test_what_is_written_is_read_from_the_disk_and_the_backup_is_what_was_there(one: Sidecar, other: Sidecar) -> None:
    def work(folder: Path) -> None:
        audio = folder / "a.wav"
        write_sidecar(audio, one)
        write_sidecar(audio, other)
        assert read_sidecar(audio) == other
        backup = folder / "a.txt.bak"
        assert backup.exists() is (one != other)
        assert not backup.exists() or parse(backup.read_bytes().decode()) == one
        assert {path.suffix for path in folder.iterdir()} <= {".txt", ".bak"}

    in_folder(work)


@ON_DISK
@given(SIDECARS, SIDECARS)
def test_songs_of_one_name_keep_their_own_words(one: Sidecar, other: Sidecar) -> None:
    def work(folder: Path) -> None:
        for name, sidecar in (("a", one), ("b", other)):
            (folder / name).mkdir()
            (folder / name / "song.wav").touch()
            write_sidecar(folder / name / "song.wav", sidecar)
        songs = scan_folder(folder).songs
        expected = [
            make_song(song.path, song.name, sidecar)[0] for song, sidecar in zip(songs, (one, other), strict=True)
        ]
        assert list(songs) == expected

    in_folder(work)


@PATIENT
@given(SIDECARS)
def test_rendering_is_text_that_ends_with_a_line_end_and_has_no_other_kind(sidecar: Sidecar) -> None:
    text = render(sidecar)
    assert text.endswith("\n")
    assert "\r" not in text
    assert render(parse(text)) == text


@PATIENT
@given(SIDECARS)
def test_windows_line_ends_and_a_bom_change_nothing(sidecar: Sidecar) -> None:
    assert parse("\ufeff" + render(sidecar).replace("\n", "\r\n")) == sidecar


@PATIENT
@given(SIDECARS, SIDECARS)
def test_filling_changes_no_word_that_is_there(known: Sidecar, new: Sidecar) -> None:
    merged = merge(known, new, "fill_missing")
    for name in FIELDS:
        assert getattr(merged, name) == (getattr(known, name) or getattr(new, name))


@PATIENT
@given(SIDECARS, SIDECARS, st.sampled_from(POLICIES))
def test_merging_the_same_again_changes_nothing(known: Sidecar, new: Sidecar, policy: MergePolicy) -> None:
    merged = merge(known, new, policy)
    assert merge(merged, new, policy) == merged


@PATIENT
@given(SIDECARS, SIDECARS, st.sampled_from(POLICIES))
def test_merging_takes_every_value_from_one_of_both(known: Sidecar, new: Sidecar, policy: MergePolicy) -> None:
    merged = merge(known, new, policy)
    for name in FIELDS:
        assert getattr(merged, name) in (getattr(known, name), getattr(new, name))
        assert bool(getattr(merged, name)) is bool(getattr(known, name) or getattr(new, name))


@PATIENT
@given(TAGS)
def test_tags_are_whole_and_each_stands_there_once(text: str) -> None:
    tags = split_tags(text)
    assert len(set(tags)) == len(tags)
    assert all(tag == tag.strip() and "," not in tag and tag for tag in tags)
    assert split_tags(", ".join(tags)) == tags


@ON_DISK
@given(SIDECARS, TAGS.filter(split_tags))
def test_a_tag_that_is_added_and_removed_leaves_all_else_as_it_was(sidecar: Sidecar, tag: str) -> None:
    def work(folder: Path) -> None:
        audio = folder / "a.wav"
        audio.touch()
        write_sidecar(audio, sidecar)
        edit_tags(folder, "add", tag)
        added = read_sidecar(audio) or Sidecar()
        assert set(split_tags(tag)) <= set(tags_of(added))
        assert edit_tags(folder, "add", tag) == []
        edit_tags(folder, "remove", tag)
        left = read_sidecar(audio) or Sidecar()
        assert tags_of(left) == tuple(each for each in tags_of(sidecar) if each not in split_tags(tag))
        rest = {"custom_tag": "", "trigger": ""}
        assert attrs.evolve(left, **rest) == attrs.evolve(sidecar, **rest)

    in_folder(work)


@ON_DISK
@given(SIDECARS, TAGS.filter(split_tags))
def test_a_dry_run_tells_the_lines_that_the_edit_then_changes(sidecar: Sidecar, tag: str) -> None:
    def work(folder: Path) -> None:
        audio = folder / "a.wav"
        audio.touch()
        write_sidecar(audio, sidecar)
        before = sidecar_text(audio)
        planned = edit_tags(folder, "set", tag, dry_run=True)
        assert sidecar_text(audio) == before
        assert edit_tags(folder, "set", tag) == planned
        assert (planned == []) is (sidecar_text(audio) == before)

    in_folder(work)


@pytest.mark.parametrize(
    "name", ["夜に駆ける", "🎹 emoji", "Été", "a.b.c", "with space", "quote'\"", "#1", "-dash", "%41"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_sidecar_is_found_for_a_song_of_any_name(tmp_path: Path, name: str, form: str) -> None:
    audio = tmp_path / f"{unicodedata.normalize(form, name)}.flac"  # type: ignore[arg-type]
    audio.touch()
    write_sidecar(audio, Sidecar(caption="its own"))
    assert sidecar_path(audio).stem == audio.stem
    assert [song.caption for song in scan_folder(tmp_path).songs] == ["its own"]
