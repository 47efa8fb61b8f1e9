"""What the doctor says about the words of a song, and about the lengths of a set."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.configs import Conditioning
from sidestep_core.doctor.plot import draw_lengths, make_histogram
from sidestep_core.doctor.report import CheckedSong, Finding, clock, histogram
from sidestep_core.doctor.texts import Count, Reader
from sidestep_core.prompts import MAX_LYRICS_TOKENS, MAX_PROMPT_TOKENS
from sidestep_core.sidecars import Sidecar
from sidestep_core.songs import make_song

PLAIN = {"caption": "warm pads", "language": "en"}


def words(text: str) -> int:
    return len(text.split())


def findings(
    fields: dict[str, Any],
    *,
    prompt: str = "short",
    lyrics: str = "",
    language: str = "",
    conditioning: Conditioning = "inference",
    count: Count | None = words,
) -> list[Finding]:
    song, _ = make_song(Path("a.wav"), "a.wav", Sidecar(**fields))
    told = CheckedSong(name="a.wav", seconds=60.0, prompt=prompt, lyrics=lyrics, language=language)
    return list(Reader(conditioning=conditioning, count=count).findings(song, told))


def kinds(found: list[Finding]) -> list[str]:
    return [finding.kind for finding in found]


def test_a_described_song_has_nothing_wrong_with_it() -> None:
    assert findings(PLAIN) == []


def test_a_caption_made_of_the_file_name_is_no_caption() -> None:
    (found,) = findings({})
    assert (found.kind, found.reason, found.dropped) == ("no caption", "described by its file name: 'a'", False)


def test_a_song_with_a_voice_and_no_lyrics_is_told() -> None:
    assert kinds(findings(PLAIN | {"is_instrumental": "false"})) == ["no lyrics"]


def test_tags_of_ai_toolkit_that_are_taken_for_lyrics_are_told() -> None:
    (found,) = findings(PLAIN | {"lyrics": "<CAPTION>c</CAPTION>"})
    assert found.kind == "sidecar"
    assert "sidestep convert-sidecars" in found.reason


@pytest.mark.parametrize(("conditioning", "limit"), MAX_LYRICS_TOKENS.items())
def test_lyrics_are_cut_at_the_limit_of_their_shape(conditioning: Conditioning, limit: int) -> None:
    assert findings(PLAIN, lyrics="la " * limit, conditioning=conditioning) == []
    (found,) = findings(PLAIN, lyrics="la " * (limit + 1), conditioning=conditioning)
    assert (found.kind, found.dropped) == ("cut lyrics", True)
    assert found.reason == f"{limit + 1:,} tokens, of which {limit:,} are used"


def test_a_prompt_is_cut_at_its_own_limit() -> None:
    assert kinds(findings(PLAIN, prompt="la " * MAX_PROMPT_TOKENS)) == []
    assert kinds(findings(PLAIN, prompt="la " * (MAX_PROMPT_TOKENS + 1))) == ["cut prompt"]


def test_a_text_of_fewer_bytes_than_tokens_are_allowed_is_not_counted() -> None:
    def refuse(text: str) -> int:
        raise AssertionError(text)

    assert findings(PLAIN, prompt="x" * MAX_PROMPT_TOKENS, count=refuse) == []


def test_without_a_tokenizer_lengths_are_estimated_and_said_to_be() -> None:
    assert findings(PLAIN, lyrics="la la la\n" * 600, count=None) == []
    (found,) = findings(PLAIN, lyrics="la la la\n" * 6000, count=None)
    assert found.reason.startswith("about 15,429 tokens, estimated by length, of which 2,048")


def test_lyrics_that_look_like_another_language_are_told() -> None:
    (found,) = findings(PLAIN | {"lyrics": "der Regen fällt"}, language="de")
    assert (found.kind, found.reason) == ("language", "said to be 'en', and the lyrics look like 'de'")


@pytest.mark.parametrize("stated", ["", "Klingon"])
def test_a_language_that_the_model_is_not_told_is_offered(stated: str) -> None:
    (found,) = findings({"caption": "c", "language": stated, "lyrics": "der Regen"}, language="de")
    assert found.reason == f"'{stated or 'unknown'}' to the model; the lyrics look like 'de'"


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [
        ([], []),
        ([14.9], [("0:00 to 0:15", 1)]),
        ([15.0, 29.0], [("0:15 to 0:30", 2)]),
        ([10, 100, 110], [("0:00 to 0:15", 1), ("0:15 to 0:30", 0), ("0:30 to 1:00", 0), ("1:00 to 2:00", 2)]),
        ([500, 9999], [("8:00 and longer", 2)]),
    ],
)
def test_songs_are_counted_by_their_lengths(seconds: list[float], lengths: list[tuple[str, int]]) -> None:
    assert histogram(seconds) == lengths


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (19.9, "0:20"), (59.7, "1:00"), (3601, "60:01")])
def test_times_are_minutes_and_seconds(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("seconds", [[], [3.0], [5.0, 20.0, 20.0, 700.0]])
def test_the_picture_has_the_bars_of_the_text(seconds: list[float]) -> None:
    (axes,) = make_histogram(seconds).axes
    assert [bar.get_height() for bar in axes.patches] == [count for _, count in histogram(seconds)]  # type: ignore[attr-defined]


def test_no_two_labels_of_the_picture_overlap() -> None:
    figure = make_histogram([5, 20, 40, 70, 130, 200, 250, 350, 500])
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) == 9
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a/one.svg", "a/two.svg", "three.png"):
        draw_lengths([5.0, 20.0], tmp_path / name)
    assert (tmp_path / "a" / "one.svg").read_bytes() == (tmp_path / "a" / "two.svg").read_bytes()
    assert ET.fromstring((tmp_path / "a" / "one.svg").read_text()).tag.endswith("svg")
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")
