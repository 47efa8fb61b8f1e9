"""`sidestep tags` on real folders: what stands in the sidecars afterwards, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.sidecars import parse, read_sidecar

RunCli = Callable[..., Any]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Return a folder of songs: with tags, with other words only, with nothing, and in a subfolder."""
    folder = tmp_path / "songs"
    (folder / "live set").mkdir(parents=True)
    for name in ("a.wav", "b.mp3", "c.flac", "live set/d.ogg"):
        (folder / name).touch()
    (folder / "a.txt").write_text("caption: slow, Mood: dark\ncustom_tag: jazz, jazz piano\nlyrics:\nla la\n")
    (folder / "b.txt").write_text("# by ear\ncaption: fast\nbpm: 120\n")
    (folder / "live set" / "d.txt").write_text("caption: loud\ntrigger: old tag\n")
    return folder


def tags(folder: Path, name: str) -> str:
    sidecar = read_sidecar(folder / name)
    return sidecar.custom_tag if sidecar else ""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_song_is_listed_by_its_path_in_the_folder(run_cli: RunCli, songs: Path) -> None:
    lines = run_cli("tags", "list", songs).out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["SONG", "a.wav", "b.mp3", "c.flac", "live set/d.ogg"]
    assert [line.rpartition("  ")[2] for line in lines[1:]] == ["jazz, jazz piano", "-", "-", "old tag"]


def test_the_json_listing_has_a_list_of_tags_for_each_song(run_cli: RunCli, songs: Path) -> None:
    assert json.loads(run_cli("tags", "list", songs, "--json").out) == [
        {"song": "a.wav", "tags": ["jazz", "jazz piano"]},
        {"song": "b.mp3", "tags": []},
        {"song": "c.flac", "tags": []},
        {"song": "live set/d.ogg", "tags": ["old tag"]},
    ]


def test_a_folder_without_songs_is_said_to_have_none(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run_cli("tags", "list", "empty")
    assert (result.code, result.out, result.err) == (0, "", "no songs in 'empty'\n")
    assert json.loads(run_cli("tags", "list", "empty", "--json").out) == []


def test_removing_a_tag_leaves_longer_ones_that_hold_it(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("tags", "remove", songs, "--tag", "jazz")
    assert (result.code, result.err) == (0, "1 sidecar changed\n")
    assert tags(songs, "a.wav") == "jazz piano"


def test_the_change_is_shown_before_and_after(run_cli: RunCli, songs: Path) -> None:
    lines = run_cli("tags", "add", songs, "-t", "jazz").out.splitlines()
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert rows[0] == ["SIDECAR", "BEFORE", "AFTER"]
    assert rows[1:] == [["b.txt", "-", "jazz"], ["c.txt", "-", "jazz"], ["live set/d.txt", "old tag", "jazz, old tag"]]


def test_several_tags_are_added_in_their_order_each_once(run_cli: RunCli, songs: Path) -> None:
    run_cli("tags", "add", songs, "--tag", " new , jazz,new ,  other  one ")
    assert tags(songs, "a.wav") == "new, other one, jazz, jazz piano"


@pytest.mark.parametrize(
    ("position", "expected"),
    [("prepend", "new, jazz, jazz piano"), ("append", "jazz, jazz piano, new"), ("replace", "new")],
)
def test_the_position_decides_where_it_goes(run_cli: RunCli, songs: Path, position: str, expected: str) -> None:
    run_cli("tags", "add", songs, "--tag", "new", "--position", position)
    assert tags(songs, "a.wav") == expected


def test_setting_makes_it_the_only_one_everywhere(run_cli: RunCli, songs: Path) -> None:
    assert run_cli("tags", "set", songs, "--tag", "mine").err == "4 sidecars changed\n"
    assert [tags(songs, n) for n in ("a.wav", "b.mp3", "c.flac", "live set/d.ogg")] == ["mine"] * 4


def test_the_rest_of_a_sidecar_stays_word_for_word(run_cli: RunCli, songs: Path) -> None:
    before = parse((songs / "b.txt").read_text())
    run_cli("tags", "add", songs, "--tag", "mine")
    after = parse((songs / "b.txt").read_text())
    assert (after.caption, after.bpm, after.comments) == (before.caption, before.bpm, "by ear")
    assert parse((songs / "a.txt").read_text()).lyrics == "la la"


def test_what_was_there_is_kept_in_a_backup(run_cli: RunCli, songs: Path) -> None:
    before = (songs / "a.txt").read_bytes()
    run_cli("tags", "set", songs, "--tag", "mine")
    assert (songs / "a.txt.bak").read_bytes() == before


@pytest.mark.parametrize(
    "words", [("add", "--tag", "new"), ("remove", "--tag", "jazz"), ("set", "--tag", "new"), ("clear",)]
)
def test_no_operation_writes_in_a_dry_run(run_cli: RunCli, songs: Path, words: tuple[str, ...]) -> None:
    before = contents(songs)
    result = run_cli("tags", words[0], songs, *words[1:], "--dry-run")
    assert (result.code, result.err.endswith("would change\n")) == (0, True)
    assert contents(songs) == before


def test_a_dry_run_shows_the_lines_that_would_change(run_cli: RunCli, songs: Path) -> None:
    (songs / "b.txt").write_text(
        "caption: fast\ngenre: \nbpm: \nkey: \nsignature: \nis_instrumental: \ncustom_tag: x\n"
    )
    (songs / "c.flac").unlink()
    (songs / "live set" / "d.ogg").unlink()
    result = run_cli("tags", "remove", songs, "--tag", "x, jazz", "--dry-run")
    assert result.out.splitlines()[-2:] == ["b.txt", "  - custom_tag: x"]
    assert "  - custom_tag: jazz, jazz piano\n" in result.out
    assert "  + custom_tag: jazz piano\n" in result.out


@pytest.mark.parametrize("flag", ["-i", "--input"])
def test_the_folder_may_stand_behind_the_published_flag(run_cli: RunCli, songs: Path, flag: str) -> None:
    assert run_cli("tags", "set", flag, songs, "--tag", "mine").err == "4 sidecars changed\n"
    assert run_cli("tags", "list", flag, songs).out.count("mine") == 4


@pytest.mark.parametrize(
    ("words", "message"), [((), "give FOLDER"), (("songs", "-i", "songs/live set"), "more than one FOLDER")]
)
@pytest.mark.usefixtures("songs")
def test_the_folder_must_be_said_once(run_cli: RunCli, words: tuple[str, ...], message: str) -> None:
    result = run_cli("tags", "list", *words)
    assert (result.code, result.err.splitlines()[0]) == (2, f"error: {message}")


def test_a_dry_run_of_clearing_asks_nothing(run_cli: RunCli, songs: Path) -> None:
    assert run_cli("tags", "clear", songs, "--dry-run", typed="").err == "2 sidecars would change\n"


@pytest.mark.parametrize("words", [("add", "--tag", "mine"), ("set", "--tag", "mine")])
def test_doing_it_twice_changes_nothing_the_second_time(run_cli: RunCli, songs: Path, words: tuple[str, ...]) -> None:
    run_cli("tags", words[0], songs, *words[1:])
    before = contents(songs)
    result = run_cli("tags", words[0], songs, *words[1:])
    assert (result.code, result.out, result.err) == (0, "", "0 sidecars changed\n")
    assert contents(songs) == before


def test_an_empty_answer_to_the_question_is_no(run_cli: RunCli, songs: Path) -> None:
    before = contents(songs)
    result = run_cli("tags", "clear", songs, typed="\n")
    assert result.code == 130
    assert contents(songs) == before


def test_the_question_and_its_answer_stay_out_of_the_output(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("tags", "clear", songs, typed="y\n")
    assert "remove all tags of all songs" in result.err
    assert "remove all" not in result.out


def test_a_sidecar_that_cannot_be_read_stops_everything_before_it_begins(run_cli: RunCli, songs: Path) -> None:
    (songs / "c.txt").write_bytes("caption: caf\xe9".encode("latin-1"))
    before = contents(songs)
    result = run_cli("tags", "set", songs, "--tag", "mine")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == "error: sidecars that cannot be read:"
    assert "c.txt: not UTF-8 text (byte 12); save it as UTF-8" in result.err
    assert contents(songs) == before


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_a_tag_without_a_word_is_refused(run_cli: RunCli, songs: Path, text: str) -> None:
    result = run_cli("tags", "add", songs, "--tag", text)
    expected = "error: no tag to add; give a text without commas, or several separated by commas\n"
    assert (result.code, result.out, result.err) == (2, "", expected)


@pytest.mark.parametrize("command", ["list", "add", "remove", "set", "clear"])
@pytest.mark.parametrize(("folder", "reason"), [("nowhere", "does not exist"), ("songs/a.wav", "is a file")])
def test_what_is_no_folder_is_refused(run_cli: RunCli, songs: Path, command: str, folder: str, reason: str) -> None:
    result = run_cli("tags", command, folder)
    assert (result.code, result.out) == (2, "")
    assert f"'{folder}' {reason}" in result.err


def test_a_position_that_does_not_exist_says_which_do(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("tags", "add", songs, "--tag", "x", "--position", "first")
    assert result.code == 2
    assert "'first' is not one of 'prepend', 'append', 'replace'" in result.err


def test_names_in_any_script_are_shown_as_they_are(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "жук").mkdir()
    (tmp_path / "жук" / "日本 — ça.wav").touch()
    run_cli("tags", "add", "жук", "--tag", "шум")
    assert "日本 — ça.wav  шум" in run_cli("tags", "list", "жук").out
    assert "шум" in run_cli("tags", "list", "жук", "--json").out
