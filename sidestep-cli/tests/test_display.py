"""Work followed in plain lines and in JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from sidestep_cli.demo_screen import DemoScreen
from sidestep_cli.display import JsonLines, PreprocessLines, Screen, TrainLines, follow, preprocess_screen, train_screen
from sidestep_cli.preprocess_bars import PreprocessBars
from sidestep_cli.session import Session
from sidestep_cli.train_panel import TrainPanel
from sidestep_core import events
from sidestep_core.events import Event

REJECT = events.SongRejected(name="bad.wav", reason="truncated")
PREPROCESSED: tuple[Event, ...] = (
    events.StageStarted(stage="audio", total=2),
    events.SongFinished(stage="audio", name="one.wav", audio_seconds=90.0),
    REJECT,
    events.Notice(message="look here", warning=True),
    events.SongFinished(stage="audio", name="two [demo].wav", audio_seconds=100.0),
    events.PreprocessFinished(
        written=1, kept=1, rejected=(REJECT,), seconds=190.0, cut_lyrics=1, output=Path("my_tensors")
    ),
)
STEPS = events.StepsDone(
    step=10,
    total_steps=100,
    epoch=2,
    epochs=20,
    loss=0.5,
    smoothed=0.75,
    learning_rate=1e-4,
    grad_norm=0.25,
    steps_per_second=3.0,
    memory=7_900_000_000,
)
TRAINED: tuple[Event, ...] = (
    events.RunStarted(
        run=Path("my_lora"), step=5, total_steps=100, epochs=20, steps_per_epoch=5, songs=3, trainable=23_600_000
    ),
    STEPS,
    events.EpochDone(epoch=2, epochs=20, step=10, loss=0.5, seconds=1.0),
    events.StepSkipped(step=11, songs=("one.wav", "two.wav")),
    events.CheckpointSaved(step=50, epoch=10, path=Path("my_lora/checkpoints/step_50")),
    events.Notice(message="look here"),
    events.RunFinished(step=100, reason="complete", loss=0.25, adapter=Path("my_lora/final"), seconds=61.0),
)


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_preprocessing_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    follow(PREPROCESSED, PreprocessLines())
    out, err = capsys.readouterr()
    assert out == "2 songs (1 new, 1 up to date), 3:10 min of audio in my_tensors\n"
    assert err.splitlines() == [
        "audio: 2 songs",
        "audio 1/2  one.wav",
        "warning: bad.wav: truncated",
        "warning: look here",
        "audio 2/2  two [demo].wav",
        "",
        "1 song left out:",
        "SONG     REASON",
        "bad.wav  truncated",
        "",
        "warning: 1 song with lyrics longer than the model takes: their ends are cut",
    ]


def test_training_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    follow(TRAINED, TrainLines())
    out, err = capsys.readouterr()
    assert out == f"done after 100 steps in 1:01 min, loss 0.2500\nadapter in {Path('my_lora/final')}\n"
    assert err.splitlines() == [
        "100 steps (epochs of 5), from step 5 on 3 songs, 23.6 M parameters, in my_lora",
        "step 10/100  epoch 2/20  loss 0.5000  smoothed 0.7500  lr 1.00e-04  3.00 it/s  left 30 s  memory 7.9 GB",
        "warning: step 11 skipped: gradients not finite for one.wav, two.wav",
        f"saved step 50 in {Path('my_lora/checkpoints/step_50')}",
        "look here",
    ]


JUDGED: tuple[Event, ...] = (
    events.Validated(step=10, epoch=2, loss=0.4567, bands=(float("nan"), *[0.5] * 9), seconds=2.5),
    events.BestSaved(step=1234, epoch=2, loss=0.4567, tracked="validation", path=Path("my_lora/best")),
    events.MilestoneSaved(step=10, epoch=2, milestone=0.5, loss=0.4567, path=Path("my_lora/milestones/loss_0.5")),
)


def test_what_is_judged_and_kept_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    follow(JUDGED, TrainLines())
    assert capsys.readouterr().err.splitlines() == [
        "validation 0.4567 at step 10, in 2.5 s",
        f"best so far: validation 0.4567 at step 1,234, in {Path('my_lora/best')}",
        f"loss 0.5 reached at step 10 (0.4567), kept in {Path('my_lora/milestones/loss_0.5')}",
    ]


def test_bands_that_were_not_tried_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    follow(JUDGED, JsonLines())
    validated, best, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert (validated["event"], validated["bands"]) == ("validated", [None, *[0.5] * 9])
    assert (best["event"], best["path"]) == ("best-saved", str(Path("my_lora/best")))


def test_a_run_that_ended_early_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    follow([events.RunFinished(step=6, reason="early-stop", loss=0.5, adapter=None, seconds=1.0)], TrainLines())
    assert capsys.readouterr().out == "stopped early, with no new best, after 6 steps in 1.0 s, loss 0.5000\n"


def test_a_run_without_an_adapter_names_none(capsys: pytest.CaptureFixture[str]) -> None:
    follow([events.RunFinished(step=1, reason="stopped", loss=0.5, adapter=None, seconds=1.0)], TrainLines())
    assert capsys.readouterr().out == "stopped after 1 step in 1.0 s, loss 0.5000\n"


def test_every_event_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    follow((*PREPROCESSED, *TRAINED), JsonLines())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines[-3:]] == ["checkpoint-saved", "notice", "run-finished"]
    assert lines[5]["rejected"] == [{"name": "bad.wav", "reason": "truncated"}]
    assert lines[-1]["adapter"] == str(Path("my_lora/final"))


def test_following_returns_the_last_event() -> None:
    assert follow(TRAINED, JsonLines()) is TRAINED[-1]
    assert follow((), JsonLines()) is None


@pytest.mark.parametrize(("as_json", "kind"), [(True, JsonLines), (False, PreprocessLines)])
def test_without_a_terminal_nothing_moves_in_preprocessing(as_json: bool, kind: type) -> None:
    assert isinstance(preprocess_screen(Session(), as_json=as_json), kind)


@pytest.mark.parametrize(("as_json", "kind"), [(True, JsonLines), (False, TrainLines)])
def test_without_a_terminal_nothing_moves_in_training(as_json: bool, kind: type) -> None:
    assert isinstance(train_screen(Session(), as_json=as_json), kind)


@pytest.mark.parametrize(
    ("plain", "term", "moving"), [(False, "xterm", True), (True, "xterm", False), (False, "dumb", False)]
)
def test_bars_move_on_a_terminal_unless_plain_lines_are_wanted(
    monkeypatch: pytest.MonkeyPatch, plain: bool, term: str, moving: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    session = Session()
    session.plain = plain
    assert session.moving is moving


@pytest.mark.parametrize("width", [80, 120])
def test_bars_fit_the_terminal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = console(width)
    follow(PREPROCESSED, PreprocessBars(terminal))
    last = [line for line in shown(terminal).splitlines() if "2/2" in line][-1]
    assert len(last) < width + len("\x1b[1A\x1b[2K") * 4
    assert "took" in last


def test_a_bar_names_the_song_just_done_and_not_its_markup(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = console(120)
    bars = PreprocessBars(terminal)
    with bars:
        bars.show(events.StageStarted(stage="text", total=3))
        bars.show(events.SongFinished(stage="text", name="two [demo].wav", audio_seconds=100.0))
    assert "captions" in shown(terminal)
    assert "two [demo].wav" in shown(terminal)


def test_bars_end_with_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = console(100)
    follow(PREPROCESSED, PreprocessBars(terminal))
    out, err = capsys.readouterr()
    assert "left out: bad.wav: truncated" in shown(terminal)
    assert "warning: look here" in shown(terminal)
    assert (out.count("my_tensors"), err.count("bad.wav  truncated")) == (1, 1)


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_shows_where_a_run_is(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = console(width)
    follow(TRAINED, TrainPanel(terminal))
    text = shown(terminal)
    for part in ("10/100", "epoch 2/20", "loss 0.5000", "smoothed 0.7500", "lr 1.00e-04", "3.00 it/s", "7.9 GB"):
        assert part in text
    assert "saved step 50" in text
    assert "done after 100 steps" in capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_shows_the_last_validation_and_the_best_in_place(width: int) -> None:
    terminal = console(width)
    panel = TrainPanel(terminal)
    with panel:
        for event in (STEPS, *JUDGED):
            panel.show(event)
    lines = shown(terminal).splitlines()
    assert lines[-2] == "validation 0.4567 at step 10   best 0.4567 at step 1,234"
    assert sum("kept in" in line for line in lines) == 1


def test_the_panel_has_no_line_for_what_was_never_judged() -> None:
    terminal = console(80)
    panel = TrainPanel(terminal)
    with panel:
        panel.show(STEPS)
    assert "best" not in shown(terminal)


def test_the_panel_draws_the_course_of_the_loss() -> None:
    terminal = console(80)
    panel = TrainPanel(terminal)
    with panel:
        for step in range(1, 201):
            panel.show(events.StepsDone(**{**_fields(STEPS), "step": step, "smoothed": 1 / step}))
    course = shown(terminal).splitlines()[-1]
    assert (course[0], course[79], len(course)) == ("█", "▁", 80)


def test_the_panel_keeps_what_it_remembers_bounded() -> None:
    panel = TrainPanel(console(80))
    for _ in range(10_000):
        panel.show(STEPS)
    assert len(panel._smoothed) <= 4000


def test_the_panel_survives_losses_that_are_no_numbers() -> None:
    terminal = console(80)
    panel = TrainPanel(terminal)
    with panel:
        for smoothed in (float("nan"), float("nan"), 0.5):
            panel.show(events.StepsDone(**{**_fields(STEPS), "smoothed": smoothed}))
    assert "smoothed 0.5000" in shown(terminal)


@pytest.mark.parametrize("make", [lambda: PreprocessBars(console(80)), lambda: TrainPanel(console(80))])
def test_the_display_is_taken_down_when_the_work_fails(make: Callable[[], Screen]) -> None:
    def work() -> Iterator[Event]:
        yield events.Notice(message="begun")
        raise OSError("disk full")

    screen = make()
    with pytest.raises(OSError, match="disk full"):
        follow(work(), screen)
    with screen:  # it could not begin again if it were still up
        pass


def test_the_demonstration_shows_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    work = (
        events.StageStarted(stage="model", total=0),
        *PREPROCESSED,
        events.StageStarted(stage="train", total=100),
        *TRAINED,
        events.StageStarted(stage="export", total=2),
        events.Notice(message="native: fine"),
    )
    follow(work, DemoScreen(Session()))
    out, err = capsys.readouterr()
    titles = ("making a tiny model", "songs to tensors", "training a LoRA", "exporting", "native: fine")
    assert [err.index(title) for title in titles] == sorted(err.index(title) for title in titles)
    assert (out.count("my_tensors"), out.count("done after 100 steps")) == (1, 1)


def _fields(event: events.StepsDone) -> dict[str, object]:
    return {name: getattr(event, name) for name in STEPS.__slots__ if not name.startswith("__")}
