"""What describing looks like: a line for each song, what to look at, and what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from sidestep_cli.describe_screen import (
    DescribeLines,
    describe_screen,
    finish_line,
    outcome,
    print_describe_plan,
    song_line,
)
from sidestep_cli.display import JsonLines
from sidestep_core.describing.plan import SongPlan
from sidestep_core.events import DescribeFinished, DescribeStarted, Notice, SongDescribed


def song(name: str = "a.wav", **more: Any) -> SongDescribed:
    return SongDescribed(**{"name": name, "provider": "web", "seconds": 2.04, **more})


def finished(*songs: SongDescribed, **more: Any) -> DescribeFinished:
    counts = dict(written=0, complete=0, unchanged=0, failed=0, left=0)
    return DescribeFinished(songs=songs, **{**counts, **more})


def shown(capsys: pytest.CaptureFixture[str], *events: Any) -> tuple[str, str]:
    screen = DescribeLines()
    for event in events:
        screen.show(event)
    out, err = capsys.readouterr()
    return out, err


def test_a_song_is_a_line() -> None:
    line = song_line(song(fields=("caption", "bpm")), 3, 12)
    assert line == f"web 3/12  {'a.wav':<40}  caption, bpm (2.0 s)"


def test_a_long_name_is_cut_in_its_middle() -> None:
    line = song_line(song("folder/" + "x" * 60 + ".wav"), 1, 1)
    assert "folder/xxx" in line
    assert "…" in line
    assert "xxx.wav  nothing new" in line


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"fields": ("lyrics",)}, "lyrics (2.0 s)"),
        ({}, "nothing new (2.0 s)"),
        ({"problem": "too large"}, "too large"),
        ({"fields": ("lyrics",), "doubts": ("x",)}, "lyrics, 1 doubt (2.0 s)"),
        ({"fields": ("lyrics",), "doubts": ("x", "y")}, "lyrics, 2 doubts (2.0 s)"),
        ({"doubts": ("no such song",)}, "nothing new, 1 doubt (2.0 s)"),
    ],
)
def test_what_came_of_a_song_is_said(more: dict[str, Any], text: str) -> None:
    assert click.unstyle(outcome(song(**more))) == text


def test_songs_are_counted_for_each_provider(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = shown(
        capsys,
        DescribeStarted(provider="genius", total=2),
        song(provider="genius"),
        song("b.wav", provider="genius"),
        DescribeStarted(provider="web", total=1),
        song(),
    )
    assert [line.split("  ")[0] for line in err.splitlines()] == [
        "asking genius about 2 songs",
        "genius 1/2",
        "genius 2/2",
        "asking web about 1 song",
        "web 1/1",
    ]


def test_a_sidecar_that_cannot_be_read_is_nobodys_turn(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = shown(capsys, SongDescribed(name="a.wav", provider="", problem="not UTF-8 text"))
    assert err.startswith("sidecar  a.wav")
    assert err.endswith("not UTF-8 text\n")


def test_notices_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = shown(capsys, Notice(message="busy"), Notice(message="left out", warning=True))
    assert err.splitlines() == ["busy", "warning: left out"]


def test_the_end_says_what_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    songs = (
        song(fields=("bpm",), doubts=("bpm: 96 was measured", "heard 45 s")),
        song("b.wav", problem="too large"),
        song("c.wav", fields=("bpm",)),
        SongDescribed(name="d.wav", provider="", problem="not UTF-8"),
    )
    out, err = shown(capsys, finished(*songs, written=2, failed=2))
    assert [line.split(maxsplit=2) for line in err.splitlines() if line] == [
        ["3", "songs", "to look at:"],
        ["SONG", "BY", "WHAT"],
        ["a.wav", "web", "bpm: 96 was measured"],
        ["a.wav", "web", "heard 45 s"],
        ["b.wav", "web", "too large"],
        ["d.wav", "sidecar", "not UTF-8"],
    ]
    assert out.splitlines()[-1] == "2 songs described, 2 with a problem"


def test_the_end_has_a_row_for_each_provider(capsys: pytest.CaptureFixture[str]) -> None:
    songs = (song(fields=("bpm",)), song("b.wav"), song(provider="genius", fields=("lyrics",)))
    out, _ = shown(capsys, finished(*songs, written=1, unchanged=1))
    assert [line.split() for line in out.splitlines()[:3]] == [
        ["PROVIDER", "WRITTEN", "NOTHING", "FAILED", "TIME"],
        ["web", "1", "1", "0", "4.1", "s"],
        ["genius", "1", "0", "0", "2.0", "s"],
    ]


def test_without_a_song_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, finished(complete=7)) == ("0 songs described, 7 complete before\n", "")


def test_why_it_ended_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(capsys, finished(left=3, ended="web: wrong key"))
    assert err == "error: web: wrong key\n"
    assert out == "0 songs described, 3 not asked about\n"


def test_every_count_is_said_where_it_is_not_nothing() -> None:
    done = finished(written=1, complete=1200, unchanged=3, failed=4, left=5)
    expected = "1 song described, 1,200 complete before, 3 with nothing new, 4 with a problem, 5 not asked about"
    assert finish_line(done) == expected


def test_json_is_lines_of_events() -> None:
    assert isinstance(describe_screen(as_json=True), JsonLines)
    assert isinstance(describe_screen(as_json=False), DescribeLines)


def test_a_plan_has_a_row_for_each_question_and_each_problem(capsys: pytest.CaptureFixture[str]) -> None:
    plans = [
        SongPlan(path=Path("a"), name="a.wav", asked={"x": frozenset({"lyrics"}), "y": frozenset({"bpm", "caption"})}),
        SongPlan(path=Path("b"), name="b.wav"),
        SongPlan(path=Path("c"), name="c.wav", problem="not UTF-8"),
    ]
    print_describe_plan(plans, as_json=False)
    out, err = capsys.readouterr()
    assert [line.split(maxsplit=2) for line in out.splitlines()] == [
        ["SONG", "ASKED", "FOR"],
        ["a.wav", "x", "lyrics"],
        ["a.wav", "y", "caption, bpm"],
        ["c.wav", "-", "not UTF-8"],
    ]
    assert err == "3 songs, 1 complete; would ask x about 1, y about 1\n"


def test_a_plan_with_nothing_to_do_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_describe_plan([SongPlan(path=Path("b"), name="b.wav")], as_json=False)
    assert capsys.readouterr() == ("", "1 song, 1 complete; would ask nobody\n")
