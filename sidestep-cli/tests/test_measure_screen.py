"""Lines of measured songs."""

from __future__ import annotations

import click
import pytest
from sidestep_cli.measure_screen import MeasureLines, finish_line, measure_screen, song_line, value_text
from sidestep_core.events import MeasureFinished, SongMeasured, SongRejected, StageStarted
from sidestep_core.interfaces import Confidence, Measured


def found(value: str, confidence: Confidence = "high", *others: str) -> Measured:
    return Measured(value=value, confidence=confidence, probability=0.5, others=others)


def plain_line(event: SongMeasured) -> str:
    return click.unstyle(song_line(event))


def done(**counts: int) -> MeasureFinished:
    return MeasureFinished(**({"written": 0, "complete": 0, "doubtful": 0, "rejected": ()} | counts))


def test_values_stand_in_one_order_after_the_name() -> None:
    values = {"key": found("A minor"), "signature": found("4/4"), "bpm": found("120")}
    line = plain_line(SongMeasured(name="a.wav", found=values, written=("bpm", "key", "signature")))
    assert line.split() == ["a.wav", "120", "4/4", "A", "minor"]


def test_what_is_doubtful_has_a_question_mark_and_what_it_may_be() -> None:
    assert click.unstyle(value_text(found("60", "low", "120", "90"), doubtful=True)) == "60? (or 120, 90)"
    assert click.unstyle(value_text(found("60", "low"), doubtful=True)) == "60?"
    assert value_text(found("60", "high", "120"), doubtful=False) == "60"


def test_what_could_not_be_measured_is_named() -> None:
    event = SongMeasured(name="a.wav", found={"key": found("A minor")}, doubtful=("bpm", "signature"))
    assert plain_line(event).endswith("A minor  no bpm  no signature")


def test_long_names_are_shortened_so_that_values_stay_in_line() -> None:
    lines = [
        plain_line(SongMeasured(name=name, found={"bpm": found("120")})) for name in ("a.wav", "folder/" * 20 + "b.wav")
    ]
    assert len({line.index("120") for line in lines}) == 1


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (done(written=1), "1 sidecar written"),
        (done(written=2, complete=1), "2 sidecars written, 1 song said everything already"),
        (done(doubtful=2), "0 sidecars written, 2 songs with something doubtful, which is not written"),
    ],
)
def test_the_last_line_says_what_was_done(event: MeasureFinished, line: str) -> None:
    assert finish_line(event) == line


def test_a_dry_run_says_would_be() -> None:
    event = MeasureFinished(written=3, complete=0, doubtful=0, rejected=(), dry_run=True)
    assert finish_line(event) == "3 sidecars would be written"


def test_songs_go_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    screen = measure_screen(as_json=False)
    assert isinstance(screen, MeasureLines)
    bad = SongRejected(name="b.mp3", reason="no audio")
    for event in (
        StageStarted(stage="measure", total=2),
        SongMeasured(name="a.wav", found={"bpm": found("120")}),
        bad,
        MeasureFinished(written=1, complete=0, doubtful=0, rejected=(bad,)),
    ):
        screen.show(event)
    out, err = capsys.readouterr()
    assert out.split() == ["a.wav", "120"]
    assert click.unstyle(err).splitlines() == [
        "measuring 2 songs",
        "warning: b.mp3: no audio",
        "1 sidecar written, 1 song could not be measured",
    ]


def test_nothing_to_do_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    measure_screen(as_json=False).show(StageStarted(stage="measure", total=0))
    assert capsys.readouterr() == ("", "")
