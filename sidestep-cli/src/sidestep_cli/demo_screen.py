"""The demonstration on the screen: preprocessing, then training, then what was exported."""

from __future__ import annotations

from types import TracebackType

import click
from sidestep_core import events
from sidestep_core.events import Event

from sidestep_cli.analysis_screen import analysis_screen
from sidestep_cli.display import Screen, StillScreen, note_line, preprocess_screen, train_screen
from sidestep_cli.measure_screen import measure_screen
from sidestep_cli.session import Session

TITLES = {
    "model": "making a tiny model and songs",
    "measure": "measuring tempo, key and metre",
    "analyze": "finding out which projections matter",
    "train": "training a LoRA",
    "export": "exporting, and reading back what was written",
}


class DemoScreen(StillScreen):
    """Hands each event to the screen of the stage it belongs to."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._screen: Screen | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def show(self, event: Event) -> None:
        """Show one event; the stages of the demonstration itself change the screen."""
        match event:
            case events.StageStarted(stage=stage) if stage in TITLES:
                self._leave()
                click.secho(TITLES[stage], bold=True, err=True)
                if event.stage == "measure":
                    self._enter(measure_screen(as_json=False))
                if event.stage == "analyze":
                    self._enter(analysis_screen(self._session, as_json=False))
                if event.stage == "train":
                    self._enter(train_screen(self._session, as_json=False))
            case events.MeasureFinished():
                self._shown(event)
                self._leave()
            case events.StageStarted() if self._screen is None:
                click.secho("songs to tensors", bold=True, err=True)
                self._enter(preprocess_screen(self._session, as_json=False))
                self._shown(event)
            case events.Notice() if self._screen is None:
                click.echo(note_line(event), err=True)
            case _:
                self._shown(event)

    def _shown(self, event: Event) -> None:
        if self._screen is not None:
            self._screen.show(event)

    def _enter(self, screen: Screen) -> None:
        self._screen = screen.__enter__()

    def _leave(self) -> None:
        if self._screen is not None:
            self._screen.__exit__(None, None, None)
        self._screen = None
