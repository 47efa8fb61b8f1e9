"""Training as a panel that redraws itself: bar, losses with their course, rate, speed, time left, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sidestep_core import events
from sidestep_core.events import Event

from sidestep_cli.display import note_line, print_train_result, start_line
from sidestep_cli.output import duration, size

BLOCKS = "▁▂▃▄▅▆▇█"
MAX_WIDTH = 100
MAX_POINTS = 4000


class TrainPanel:
    """A screen with the state of a run; checkpoints, milestones and warnings scroll by above it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._started = time.monotonic()
        self._last: events.StepsDone | None = None
        self._smoothed: list[float] = []
        self._validated: events.Validated | None = None
        self._best: events.BestSaved | None = None
        self._result: events.RunFinished | None = None
        # last: it asks for the panel at once
        self._live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._last is not None:
            # the last state stays on the screen
            self.console.print(self.render())
        if self._result is not None:
            print_train_result(self._result)

    def show(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case events.RunStarted():
                self._started = time.monotonic()
                self._print(start_line(event))
            case events.StepsDone():
                self._last = event
                self._smoothed.append(event.smoothed)
                if len(self._smoothed) > MAX_POINTS:
                    self._smoothed = self._smoothed[::2]
            case events.Validated():
                self._validated = event
            case events.BestSaved():
                self._best = event
            case events.RunFinished():
                self._result = event
            case _:
                if line := note_line(event):
                    self._print(line)

    def render(self) -> RenderableType:
        """Return the panel as it is now."""
        last = self._last
        elapsed = duration(time.monotonic() - self._started)
        if last is None:
            return Text(f"preparing, {elapsed}", style="dim")
        width = min(self.console.width, MAX_WIDTH)
        judged = _judged(self._validated, self._best)
        return Group(_bar(last, width), _figures(last, elapsed), *judged, _course(self._smoothed, width))

    def _print(self, line: str) -> None:
        self._live.console.print(Text.from_ansi(line))


def _bar(last: events.StepsDone, width: int) -> RenderableType:
    row = Table.grid(padding=(0, 2))
    share = last.step / max(last.total_steps, 1)
    counts = f"{last.step:,}/{last.total_steps:,}  {share:4.0%}  epoch {last.epoch:,}/{last.epochs:,}"
    bar = ProgressBar(total=last.total_steps, completed=last.step, width=max(width - len(counts) - 2, 10))
    row.add_row(bar, counts)
    return row


def _figures(last: events.StepsDone, elapsed: str) -> RenderableType:
    left = (last.total_steps - last.step) / last.steps_per_second if last.steps_per_second else None
    grid = Table.grid(padding=(0, 3))
    grid.add_row(
        _figure("loss", f"{last.loss:.4f}", "bold"),
        _figure("smoothed", f"{last.smoothed:.4f}", "bold green"),
        _figure("lr", f"{last.learning_rate:.2e}"),
        _figure("grad", f"{last.grad_norm:.3f}"),
    )
    grid.add_row(
        _figure("elapsed", elapsed),
        _figure("left", "-" if left is None else duration(left)),
        _figure("speed", f"{last.steps_per_second:.2f} it/s"),
        _figure("memory", size(last.memory)),
    )
    return grid


def _judged(validated: events.Validated | None, best: events.BestSaved | None) -> Iterator[RenderableType]:
    """Yield a line with the last trial of the held-out songs and the best adapter, as far as there are any."""
    figures = []
    if validated is not None:
        figures.append(_figure("validation", f"{validated.loss:.4f} at step {validated.step:,}", "bold cyan"))
    if best is not None:
        figures.append(_figure("best", f"{best.loss:.4f} at step {best.step:,}", "bold cyan"))
    if figures:
        yield Text("   ").join(figures)


def _figure(name: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{name} ", "dim"), (value, style))


def _course(values: list[float], width: int) -> Text:
    """Draw the smoothed loss over the whole run in one line, each block the mean of its share of the reports."""
    points = [v for v in values if v == v]
    if len(points) < 2:
        return Text("")
    columns = min(len(points), width)
    edges = [round(i * len(points) / columns) for i in range(columns + 1)]
    means = [sum(points[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return Text("".join(BLOCKS[round((mean - low) * scale)] for mean in means), style="green")
