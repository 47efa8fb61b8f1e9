"""Songs being described on the screen: a line for each answer, a table at the end, or lines of JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import attrs
import click
from sidestep_core import events
from sidestep_core.describing.normalise import FIELDS
from sidestep_core.describing.plan import SongPlan
from sidestep_core.events import DescribeFinished, Event, SongDescribed

from sidestep_cli.display import JsonLines, Screen, StillScreen, note_line
from sidestep_cli.output import duration, plural, print_json, print_table, shorten

NAME_WIDTH = 40


def describe_screen(*, as_json: bool) -> Screen:
    """Return what shows describing."""
    return JsonLines() if as_json else DescribeLines()


class DescribeLines(StillScreen):
    """A line for each song and provider on stderr; how it ended on stdout."""

    def __init__(self) -> None:
        self._total = self._done = 0

    def show(self, event: Event) -> None:
        """Print what people want to see."""
        match event:
            case events.DescribeStarted():
                self._total, self._done = event.total, 0
                click.echo(f"asking {event.provider} about {plural(event.total, 'song')}", err=True)
            case events.SongDescribed():
                self._done += bool(event.provider)
                click.echo(song_line(event, self._done, self._total), err=True)
            case events.DescribeFinished():
                print_result(event)
            case _:
                if line := note_line(event):
                    click.echo(line, err=True)


def song_line(event: SongDescribed, number: int, total: int) -> str:
    """Return what came of one song, in a line."""
    where = f"{event.provider} {number}/{total}" if event.provider else "sidecar"
    return f"{where}  {shorten(event.name, NAME_WIDTH):<{NAME_WIDTH}}  {outcome(event)}"


def outcome(event: SongDescribed) -> str:
    """Return what was written, or why nothing was."""
    if event.problem:
        return click.style(event.problem, fg="red")
    doubted = click.style(f", {plural(len(event.doubts), 'doubt')}", fg="yellow") if event.doubts else ""
    return f"{', '.join(event.fields) or 'nothing new'}{doubted} ({duration(event.seconds)})"


def print_result(event: DescribeFinished) -> None:
    """Print what to look at and why it ended on stderr; a row for each provider, and what there is now, on stdout."""
    worth = [song for song in event.songs if song.problem or song.doubts]
    if worth:
        click.echo(f"\n{plural(len({song.name for song in worth}), 'song')} to look at:", err=True)
        rows = [(song.name, song.provider or "sidecar", what) for song in worth for what in _remarks(song)]
        print_table(("song", "by", "what"), rows, err=True)
        click.echo(err=True)
    if event.ended:
        click.echo(f"{click.style('error:', fg='red')} {event.ended}", err=True)
    if any(song.provider for song in event.songs):
        print_table(*_by_provider(event.songs), right=("written", "nothing", "failed", "time"))
    click.echo(finish_line(event))


def finish_line(event: DescribeFinished) -> str:
    """Return how describing ended."""
    parts = [f"{plural(event.written, 'song')} described"]
    if event.complete:
        parts.append(f"{event.complete:,} complete before")
    if event.unchanged:
        parts.append(f"{event.unchanged:,} with nothing new")
    if event.failed:
        parts.append(f"{event.failed:,} with a problem")
    if event.left:
        parts.append(f"{event.left:,} not asked about")
    return ", ".join(parts)


def print_describe_plan(plans: Sequence[SongPlan], *, as_json: bool) -> None:
    """Print what would be asked about which song."""
    if as_json:
        print_json(
            [{**attrs.asdict(p), "asked": {who: _ordered(what) for who, what in p.asked.items()}} for p in plans]
        )
        return
    rows = [(plan.name, who, ", ".join(_ordered(what))) for plan in plans for who, what in plan.asked.items()]
    rows += [(plan.name, "-", plan.problem) for plan in plans if plan.problem]
    if rows:
        print_table(("song", "asked", "for"), rows)
    calls = {who: sum(who in plan.asked for plan in plans) for plan in plans for who in plan.asked}
    told = ", ".join(f"{who} about {count:,}" for who, count in calls.items()) or "nobody"
    click.echo(f"{plural(len(plans), 'song')}, {sum(p.complete for p in plans):,} complete; would ask {told}", err=True)


def _ordered(fields: Collection[str]) -> list[str]:
    return [field for field in FIELDS if field in fields]


def _remarks(song: SongDescribed) -> Iterable[str]:
    return (song.problem,) if song.problem else song.doubts


def _by_provider(songs: Sequence[SongDescribed]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for provider in dict.fromkeys(song.provider for song in songs if song.provider):
        mine = [song for song in songs if song.provider == provider]
        written, failed = (sum(map(bool, (getattr(s, name) for s in mine))) for name in ("fields", "problem"))
        spent = duration(sum(song.seconds for song in mine))
        rows.append((provider, f"{written:,}", f"{len(mine) - written - failed:,}", f"{failed:,}", spent))
    return ("provider", "written", "nothing", "failed", "time"), rows
