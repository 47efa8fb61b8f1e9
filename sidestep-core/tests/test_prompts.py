"""Prompts are byte for byte what the model was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sidestep_core.prompts import genre_choice, lyrics_prompt, text_prompt
from sidestep_core.songs import Song, TagPosition

HEAD = "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n# Caption\n"


def song(**fields: Any) -> Song:
    return Song(**{"path": Path("a.wav"), "name": "a.wav", "caption": "c", **fields})


def described(made: Song, tag: str = "", position: TagPosition = "prepend", use_genre: bool = False) -> str:
    """Return the caption line of the text prompt."""
    text = text_prompt(made, seconds=10, tag=tag, tag_position=position, use_genre=use_genre)
    return text.removeprefix(HEAD).split("\n\n# Metas\n")[0]


def test_a_song_with_everything_known_is_told_whole() -> None:
    made = song(caption="warm lo-fi beat", genre="lo-fi", custom_tag="mytag", bpm="85", key="C minor", signature="4/4")
    assert text_prompt(made, seconds=182, tag="", tag_position="prepend", use_genre=False) == (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n# Caption\n"
        "mytag, warm lo-fi beat\n\n# Metas\n- bpm: 85\n- timesignature: 4/4\n- keyscale: C minor\n"
        "- duration: 182 seconds\n<|endoftext|>\n"
    )


def test_what_is_not_known_is_told_as_not_available() -> None:
    made = song(caption="warm lo-fi beat", genre="lo-fi", custom_tag="mytag")
    assert text_prompt(made, seconds=30, tag="", tag_position="append", use_genre=True) == (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n# Caption\n"
        "lo-fi, mytag\n\n# Metas\n- bpm: N/A\n- timesignature: N/A\n- keyscale: N/A\n"
        "- duration: 30 seconds\n<|endoftext|>\n"
    )


@pytest.mark.parametrize(
    ("fields", "position", "use_genre", "expected"),
    [
        ({"custom_tag": "t"}, "prepend", False, "t, c"),
        ({"custom_tag": "t"}, "append", False, "c, t"),
        ({"custom_tag": "t"}, "replace", False, "t"),
        ({}, "replace", False, "c"),
        ({"caption": "", "custom_tag": "t"}, "append", False, "t"),
        ({"genre": "g"}, "prepend", True, "g"),
        ({"genre": "g"}, "prepend", False, "c"),
        ({"genre": ""}, "prepend", True, "c"),
        ({"genre": "g", "prompt_override": "caption"}, "prepend", True, "c"),
        ({"genre": "g", "prompt_override": "genre"}, "prepend", False, "g"),
        ({"genre": "", "prompt_override": "genre", "custom_tag": "t"}, "prepend", False, "t"),
        ({"caption": "{bpm} {0}"}, "prepend", False, "{bpm} {0}"),
    ],
)
def test_caption_genre_and_tag_make_the_description(
    fields: dict[str, str], position: TagPosition, use_genre: bool, expected: str
) -> None:
    assert described(song(**fields), position=position, use_genre=use_genre) == expected


def test_the_tag_of_the_set_is_for_songs_without_their_own() -> None:
    assert described(song(), tag="set") == "set, c"
    assert described(song(custom_tag="own"), tag="set") == "own, c"


@pytest.mark.parametrize(("bpm", "told"), [("0", "N/A"), ("0.0", "N/A"), ("", "N/A"), ("100", "100"), ("0.5", "0.5")])
def test_a_tempo_of_zero_is_not_known(bpm: str, told: str) -> None:
    text = text_prompt(song(bpm=bpm), seconds=10, tag="", tag_position="prepend", use_genre=False)
    assert f"- bpm: {told}\n" in text


def test_lyrics_stand_under_their_language_as_at_inference() -> None:
    made = song(lyrics="[Verse]\n愛", language="ja", instrumental=False)
    assert lyrics_prompt(made, "inference") == "# Languages\nja\n\n# Lyric\n[Verse]\n愛<|endoftext|>"


def test_an_instrumental_has_no_lyrics_at_inference() -> None:
    made = song(lyrics="[Verse]\nleft over", instrumental=True)
    assert lyrics_prompt(made, "inference") == "# Languages\nunknown\n\n# Lyric\n[Instrumental]<|endoftext|>"


def test_lyrics_stand_bare_as_side_step_has_them() -> None:
    assert lyrics_prompt(song(lyrics="[Verse]\nla", instrumental=True, language="en"), "side-step") == "[Verse]\nla"
    assert lyrics_prompt(song(), "side-step") == "[Instrumental]"


def test_the_ratio_decides_how_many_songs_are_told_by_genre() -> None:
    assert [len(genre_choice(10, ratio)) for ratio in (0, 9, 25, 99, 100)] == [0, 0, 2, 9, 10]
    assert genre_choice(0, 50) == frozenset()


def test_the_same_songs_are_told_by_genre_every_time() -> None:
    # the head of Python's shuffle of 0..9 with seed 42, so that sets made by other tools choose alike
    assert genre_choice(10, 30) == {7, 3, 2}
    assert genre_choice(10, 30) < genre_choice(10, 60)
