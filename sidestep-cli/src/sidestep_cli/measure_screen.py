"""Measured songs on the screen: a line for each as it is done, or lines of JSON."""

from __future__ import annotations

import click
from sidestep_core import events
from sidestep_core.events import Event
from sidestep_core.interfaces import Measured

from sidestep_cli.display import JsonLines, Screen, StillScreen
from sidestep_cli.output import plural, shorten, warn

FIELDS = ("bpm", "signature", "key")
NAME_WIDTH = 40


def measure_screen(*, as_json: bool) -> Screen:
    """Return what shows measuring."""
    return JsonLines() if as_json else MeasureLines()


class MeasureLines(StillScreen):
    """What was found of each song on stdout, as it comes; how it ended on stderr."""

    def show(self, event: Event) -> None:
        """Print what people want to see."""
        match event:
            case events.StageStarted() if event.total:
                click.echo(f"measuring {plural(event.total, 'song')}", err=True)
            case events.SongMeasured():
                click.echo(song_line(event))
            case events.SongRejected():
                warn(f"{event.name}: {event.reason}")
            case events.MeasureFinished():
                click.echo(finish_line(event), err=True)


def song_line(event: events.SongMeasured) -> str:
    """Return a song and what was found of it; what is doubtful has a question mark and what it may be instead."""
    cells = [value_text(event.found[name], doubtful=name in event.doubtful) for name in FIELDS if name in event.found]
    missing = [f"no {name}" for name in event.doubtful if name not in event.found]
    return f"{shorten(event.name, NAME_WIDTH):<{NAME_WIDTH}}  {'  '.join([*cells, *missing])}".rstrip()


def value_text(found: Measured, *, doubtful: bool) -> str:
    """Return `120`, or `120? (or 60, 90)` for what is doubtful."""
    if not doubtful:
        return found.value
    others = f" (or {', '.join(found.others)})" if found.others else ""
    return click.style(f"{found.value}?{others}", fg="yellow")


def finish_line(event: events.MeasureFinished) -> str:
    """Return how measuring ended."""
    parts = [f"{plural(event.written, 'sidecar')} {'would be written' if event.dry_run else 'written'}"]
    if event.complete:
        parts.append(f"{plural(event.complete, 'song')} said everything already")
    if event.doubtful:
        parts.append(f"{plural(event.doubtful, 'song')} with something doubtful, which is not written")
    if event.rejected:
        parts.append(f"{plural(len(event.rejected), 'song')} could not be measured")
    return ", ".join(parts)
