"""Following work on the screen: plain lines, lines of JSON, or (where stderr is a terminal) moving bars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import attrs
import click
from sidestep_core import events
from sidestep_core.events import Event
from sidestep_core.specs import BuildContext

from sidestep_cli.output import amount, duration, json_line, plain_path, plural, print_table, size, warn
from sidestep_cli.session import Session

STAGES: Mapping[str, str] = {
    "scan": "reading",
    "listen": "listening",
    "audio": "audio",
    "text": "captions",
    "condition": "conditioning",
    "pt": "pt files",
    "spectrum": "eff. ranks",
    "prompt": "reading the prompt",
    "generate": "generating",
    "decode": "decoding",
}
ENDED: Mapping[str, str] = {
    "complete": "done",
    "max-steps": "done",
    "early-stop": "stopped early, with no new best,",
}


class Screen(Protocol):
    """Shows events; a context manager, so that a moving display is always taken down."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""

    def show(self, event: Event) -> None:
        """Show one event."""


def follow(work: Iterable[Event], screen: Screen) -> Event | None:
    """Do the work, show its events and return the last one."""
    last = None
    with screen:
        for last in work:
            screen.show(last)
    return last


def preprocess_screen(session: Session, *, as_json: bool) -> Screen:
    """Return what shows preprocessing in this session."""
    if as_json:
        return JsonLines()
    if session.moving:
        from sidestep_cli.preprocess_bars import PreprocessBars

        return PreprocessBars()
    return PreprocessLines()


def preview_screen(*, as_json: bool) -> Screen:
    """Return what shows the making of audio outside a run."""
    return JsonLines() if as_json else PreviewLines()


def train_screen(session: Session, *, as_json: bool) -> Screen:
    """Return what shows training in this session."""
    if as_json:
        return JsonLines()
    if session.moving:
        from sidestep_cli.train_panel import TrainPanel

        return TrainPanel()
    return TrainLines()


class StillScreen:
    """A screen with nothing to take down."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class SilentScreen(StillScreen):
    """Nothing: what matters comes at the end."""

    def show(self, event: Event) -> None:
        """Show nothing."""


class JsonLines(StillScreen):
    """Every event as a line of JSON on stdout; `event` is its name."""

    def show(self, event: Event) -> None:
        """Print the event."""
        click.echo(json_line({"event": _event_name(event), **attrs.asdict(event, value_serializer=_plain)}))


class PreprocessLines(StillScreen):
    """A line for every song and stage on stderr, the result on stdout."""

    def __init__(self) -> None:
        self._total = self._done = 0

    def show(self, event: Event) -> None:
        """Print what a log should have."""
        match event:
            case events.StageStarted():
                self._total, self._done = event.total, 0
                _say(f"{stage_title(event.stage)}: {plural(event.total, 'song')}")
            case events.SongFinished():
                self._done += 1
                _say(f"{stage_title(event.stage)} {self._done}/{self._total}  {event.name}")
            case events.SongRejected():
                warn(f"{event.name}: {event.reason}")
            case events.PreprocessFinished():
                print_preprocess_result(event)
            case events.Notice():
                _say(note_line(event))


class TrainLines(StillScreen):
    """A line for every report on stderr, the result on stdout."""

    def show(self, event: Event) -> None:
        """Print what a log should have."""
        match event:
            case events.RunStarted():
                _say(start_line(event))
            case events.StepsDone():
                _say(step_line(event))
            case events.RunFinished():
                print_train_result(event)
            case _:
                if line := note_line(event):
                    _say(line)


class PreviewLines(StillScreen):
    """A line for each stage on stderr, the files on stdout."""

    def show(self, event: Event) -> None:
        """Print what is going on, and the files at the end."""
        match event:
            case events.StageStarted():
                _say(stage_title(event.stage))
            case events.PreviewMade():
                for path in event.paths:
                    click.echo(plain_path(path))
            case events.Notice():
                _say(note_line(event))


class LinesObserver:
    """The lines of a training run, for whoever starts it from Python."""

    def __init__(self, config: None, context: BuildContext) -> None:
        self._lines = TrainLines()

    def observe(self, event: Event) -> None:
        """Print what a log should have."""
        self._lines.show(event)

    def close(self) -> None:
        """Do nothing: there is nothing to take down."""


def stage_title(stage: str) -> str:
    """Return what people call a stage of preprocessing."""
    return STAGES.get(stage, stage)


def start_line(event: events.RunStarted) -> str:
    """Return what begins, in a line."""
    begun = f", from step {event.step:,}" if event.step else ""
    shared = f", shared by {event.processes} processes" if event.processes > 1 else ""
    return (
        f"{plural(event.total_steps, 'step')} (epochs of {event.steps_per_epoch:,}){begun} on "
        f"{plural(event.songs, 'song')}, {amount(event.trainable)} parameters{shared}, in {plain_path(event.run)}"
    )


def memory_line(event: events.MemoryPlanned) -> str:
    """Return what a run will take, in a line."""
    again = f", {event.recomputed} of {event.layers} layers recomputed" if event.recomputed else ""
    return (
        f"memory: model {size(event.weights)} + adapter {size(event.adapter)} + activations {size(event.activations)} "
        f"+ overhead {size(event.overhead)} = {size(event.total)} of {size(event.free)} free on {event.device}{again}"
    )


def step_line(event: events.StepsDone) -> str:
    """Return a progress report as one line."""
    left = (event.total_steps - event.step) / event.steps_per_second if event.steps_per_second else 0.0
    return (
        f"step {event.step:,}/{event.total_steps:,}  epoch {event.epoch:,}/{event.epochs:,}  loss {event.loss:.4f}  "
        f"smoothed {event.smoothed:.4f}  lr {event.learning_rate:.2e}  {event.steps_per_second:.2f} it/s  "
        f"left {duration(left)}  memory {size(event.memory)}"
    )


def note_line(event: Event) -> str:
    """Return the line that stays on the screen for an event between reports; "" where there is none."""
    match event:
        case events.CheckpointSaved():
            return f"saved step {event.step:,} in {plain_path(event.path)}"
        case events.Validated():
            return f"validation {event.loss:.4f} at step {event.step:,}, in {duration(event.seconds)}"
        case events.BestSaved():
            return f"best so far: {event.tracked} {event.loss:.4f} at step {event.step:,}, in {plain_path(event.path)}"
        case events.MilestoneSaved():
            reached = f"loss {event.milestone:g} reached at step {event.step:,} ({event.loss:.4f})"
            return f"{reached}, kept in {plain_path(event.path)}"
        case events.PreviewMade():
            return f"preview of step {event.step:,} in {plain_path(event.paths[-1].parent)} ({duration(event.seconds)})"
        case events.StepSkipped():
            warning = click.style("warning:", fg="yellow")
            return f"{warning} step {event.step:,} skipped: gradients not finite for {', '.join(event.songs)}"
        case events.MemoryPlanned():
            return memory_line(event)
        case events.Notice():
            return f"{click.style('warning:', fg='yellow')} {event.message}" if event.warning else event.message
    return ""


def print_preprocess_result(event: events.PreprocessFinished) -> None:
    """Print the rejects with their reasons on stderr, and what there is now on stdout."""
    if event.rejected:
        _say(f"\n{plural(len(event.rejected), 'song')} left out:")
        print_table(("song", "reason"), [(song.name, song.reason) for song in event.rejected], err=True)
        _say("")
    if event.cut_lyrics:
        warn(f"{plural(event.cut_lyrics, 'song')} with lyrics longer than the model takes: their ends are cut")
    songs = f"{plural(event.written + event.kept, 'song')} ({event.written:,} new, {event.kept:,} up to date)"
    click.echo(f"{songs}, {duration(event.seconds)} of audio in {plain_path(event.output)}")


def print_train_result(event: events.RunFinished) -> None:
    """Print how a run ended and where its adapter is."""
    ended = ENDED.get(event.reason, event.reason)
    click.echo(f"{ended} after {plural(event.step, 'step')} in {duration(event.seconds)}, loss {event.loss:.4f}")
    if event.adapter is not None:
        click.echo(f"adapter in {plain_path(event.adapter)}")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _event_name(event: Event) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()


def _plain(_: object, __: object, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
