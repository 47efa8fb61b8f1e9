"""A sidecar becomes a typed song; values that mean nothing are reported and get their default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.sidecars import Sidecar
from sidestep_core.songs import Problem, Song, make_song

AUDIO = Path("music/01_night-drive.wav")


def song(**fields: Any) -> Song:
    """Return the song of a sidecar that leaves no doubt."""
    made, problems = make_song(AUDIO, "n", Sidecar(**fields))
    assert problems == []
    return made


def doubts(**fields: Any) -> tuple[Song, list[str]]:
    made, problems = make_song(AUDIO, "n", Sidecar(**fields))
    return made, [problem.reason for problem in problems]


def test_a_song_of_which_nothing_is_known_is_an_instrumental_called_by_its_name() -> None:
    assert attrs.asdict(song()) == {
        "path": AUDIO,
        "name": "n",
        "caption": "01 night drive",
        "lyrics": "[Instrumental]",
        "genre": "",
        "bpm": "",
        "key": "",
        "signature": "",
        "language": "unknown",
        "instrumental": True,
        "custom_tag": "",
        "prompt_override": "",
        "repeat": 1,
        "duration": None,
    }


def test_what_is_known_is_taken_over() -> None:
    made = song(caption="c", lyrics="la", genre="g", bpm=120.5, key="C", signature="3/4", language="ja", repeat=3)
    assert (made.caption, made.lyrics, made.genre, made.bpm) == ("c", "la", "g", "120.5")
    assert (made.key, made.signature, made.language, made.repeat, made.instrumental) == ("C", "3/4", "ja", 3, False)


def test_the_older_name_of_the_tag_counts_where_the_newer_is_empty() -> None:
    assert song(trigger="old").custom_tag == "old"
    assert song(trigger="old", custom_tag="new").custom_tag == "new"


@pytest.mark.parametrize(
    ("flag", "lyrics", "instrumental"),
    [
        ("", "", True),
        ("", "[Instrumental]", True),
        ("", "[Intro]\n[instrumental]", True),
        ("", "[Verse]\nla", False),
        ("", "[Verse]\nla\n[Instrumental]\n[Verse]\nla", False),
        ("true", "[Verse]\nla", True),
        ("YES", "", True),
        ("1", "[Verse]\nla\n[Instrumental]", False),
        ("false", "", False),
        ("no", "[Instrumental]", False),
    ],
)
def test_a_song_is_instrumental_if_it_says_so_or_has_nothing_to_sing(
    flag: str, lyrics: str, instrumental: bool
) -> None:
    assert song(is_instrumental=flag, lyrics=lyrics).instrumental is instrumental


def test_an_override_may_be_written_in_any_case() -> None:
    assert song(prompt_override="Genre").prompt_override == "genre"


def test_a_noted_duration_of_zero_is_not_known() -> None:
    assert song(duration=0).duration is None
    assert song(duration="61.5").duration == 61.5


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("repeat", "0", "repeat is '0'; it must be a whole number of at least 1"),
        ("repeat", "twice", "repeat is 'twice'; it must be a whole number of at least 1"),
        ("repeat", "²", "repeat is '²'; it must be a whole number of at least 1"),
        ("duration", "3:20", "duration is '3:20'; it must be a number of seconds"),
        ("duration", "nan", "duration is 'nan'; it must be a number of seconds"),
        ("duration", "-1", "duration is '-1'; it must be a number of seconds"),
        ("is_instrumental", "maybe", "is_instrumental is 'maybe'; it must be true or false"),
        ("prompt_override", "both", "prompt_override is 'both'; it must be caption or genre"),
    ],
)
def test_a_value_that_means_nothing_is_reported_and_gets_its_default(field: str, value: str, reason: str) -> None:
    made, reasons = doubts(**{field: value})
    assert reasons == [reason]
    assert made == song()


def test_all_doubts_about_a_song_are_reported() -> None:
    assert len(doubts(repeat="x", duration="x", is_instrumental="x")[1]) == 3


@pytest.mark.parametrize(
    ("path", "reason", "line"),
    [
        ("a/song.wav", "bpm is odd", "a/song.wav: bpm is odd"),
        ("a/song.wav", "a/song.txt: not UTF-8 text", "a/song.txt: not UTF-8 text"),
        ("a/song.wav", "b/song.txt: not UTF-8 text", "a/song.wav: b/song.txt: not UTF-8 text"),
    ],
)
def test_a_problem_names_its_file_once(path: str, reason: str, line: str) -> None:
    assert str(Problem(Path(path), reason)) == line
