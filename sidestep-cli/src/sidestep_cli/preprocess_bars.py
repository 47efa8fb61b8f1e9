"""Preprocessing as moving bars: one for each stage, with the time left and the song at hand."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text
from sidestep_core import events
from sidestep_core.events import Event

from sidestep_cli.display import note_line, print_preprocess_result, stage_title
from sidestep_cli.output import duration, shorten

BAR_WIDTH = 14
WIDE = 100
OTHER_COLUMNS = 56


class SpeedColumn(ProgressColumn):
    """Seconds of audio done in a second.

    Args:
        unit: what stands behind the figure.
    """

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed, once something is done."""
        audio, elapsed = task.fields["audio"], task.finished_time or task.elapsed
        return Text(f"{audio / elapsed:,.0f}{self._unit}" if audio and elapsed else "", style="cyan")


class TimeColumn(ProgressColumn):
    """Time left, or time taken at the end."""

    def render(self, task: Task) -> Text:
        """Return the time with a word that says which it is."""
        if task.finished:
            return Text(f"took {duration(task.finished_time or 0.0)}", style="green")
        left = task.time_remaining
        return Text("" if left is None else f"left {duration(left)}")


class PreprocessBars:
    """A screen with a bar for each stage."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        wide = self.console.width >= WIDE
        unit = "× real time" if wide else "×"
        self._name_width = max(self.console.width - OTHER_COLUMNS - len(unit), 8)
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TimeColumn(),
            SpeedColumn(unit),
            TextColumn("{task.fields[song]}", style="dim", markup=False),
            console=self.console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._result: events.PreprocessFinished | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()
        if self._result is not None:
            print_preprocess_result(self._result)

    def show(self, event: Event) -> None:
        """Move the bar of the event's stage."""
        match event:
            case events.StageStarted():
                self._tasks[event.stage] = self._bars.add_task(
                    stage_title(event.stage), total=event.total, song="", audio=0.0
                )
            case events.SongFinished():
                self._advance(event)
            case events.SongRejected():
                self._bars.console.print(Text.assemble(("left out: ", "yellow"), f"{event.name}: {event.reason}"))
            case events.PreprocessFinished():
                self._result = event
            case events.Notice():
                self._bars.console.print(Text.from_ansi(note_line(event)))

    def _advance(self, event: events.SongFinished) -> None:
        task = self._tasks[event.stage]
        # the task's own total is read back, so that a stage knows when its last song is through
        state = next(t for t in self._bars.tasks if t.id == task)
        last = state.completed + 1 >= (state.total or 0)
        song = "" if last else shorten(event.name, self._name_width)
        self._bars.update(task, advance=1, song=song, audio=state.fields["audio"] + event.audio_seconds)
