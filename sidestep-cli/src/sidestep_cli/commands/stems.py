"""`sidestep stems`: songs taken apart into vocals and instruments."""

from __future__ import annotations

import click
from sidestep_core import events
from sidestep_core.errors import Cancelled
from sidestep_core.events import Event, StemsFinished
from sidestep_core.separating import StemsConfig

from sidestep_cli.display import JsonLines, Screen, StillScreen, follow
from sidestep_cli.output import duration, json_option, plural, warn
from sidestep_cli.parts import Group, Resolved, Slot
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import stop_on_signals
from sidestep_cli.slots import SlotCommand

PROMISE = "songs that are finished stay; run the same command to go on"
SEPARATOR = Slot(
    name="separator",
    title="Separator",
    kind="separator",
    default="demucs",
    flags=("--separator",),
    help="What takes songs apart.",
)


@click.command(
    cls=SlotCommand, groups=(Group(name="stems", title="Songs and stems", config=StemsConfig),), slots=(SEPARATOR,)
)
@json_option
@pass_session
def stems(session: Session, settings: Resolved, as_json: bool) -> int:
    """Take songs apart into vocals, drums, bass and the rest, each a FLAC file.

    A song whose stems are there already is left alone. Nothing is fetched unless you say --allow-download.

    \b
    sidestep stems --input my_songs

    Exit code 1: some songs could not be taken apart; 2: none could.
    """
    config: StemsConfig = settings.groups["stems"]
    with stop_on_signals(PROMISE) as stop:
        happening = session.toolkit.separate(config, settings.one("separator"), cancelled=stop)
        try:
            last = follow(happening, _screen(as_json=as_json))
        except Cancelled:
            return stop.exit_code(Cancelled.exit_code)
        return stop.exit_code(_exit_code(last) if isinstance(last, StemsFinished) else 0)


def _screen(*, as_json: bool) -> Screen:
    return JsonLines() if as_json else StemsLines()


class StemsLines(StillScreen):
    """A line for each song on stderr as it is done; how it ended on stdout."""

    def show(self, event: Event) -> None:
        """Print what people want to see."""
        match event:
            case events.StageStarted() if event.total:
                click.echo(f"taking {plural(event.total, 'song')} apart", err=True)
            case events.SongFinished():
                click.echo(f"{event.name} ({duration(event.audio_seconds)})", err=True)
            case events.SongRejected():
                warn(f"{event.name}: {event.reason}")
            case events.StemsFinished():
                click.echo(finish_line(event))


def finish_line(event: StemsFinished) -> str:
    """Return how it ended."""
    parts = [f"stems of {plural(event.written, 'song')} in {event.output}"]
    if event.complete:
        parts.append(f"those of {plural(event.complete, 'song')} were there already")
    if event.rejected:
        parts.append(f"{plural(len(event.rejected), 'song')} could not be taken apart")
    return ", ".join(parts)


def _exit_code(done: StemsFinished) -> int:
    if not done.rejected:
        return 0
    return 1 if done.written + done.complete else 2
