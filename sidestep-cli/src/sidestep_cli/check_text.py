"""What the data doctor found, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import click
from sidestep_core.doctor.report import KINDS, DatasetChecked, Finding, histogram

from sidestep_cli.output import duration, plural, print_table, visible, warn

SHOWN = 20
BAR = 40


def to_json(report: DatasetChecked) -> dict[str, Any]:
    """Return the report as plain values."""
    lengths = histogram([song.seconds for song in report.songs])
    return {
        "songs": [attrs.asdict(song) for song in report.songs],
        "findings": [attrs.asdict(finding) for finding in report.findings],
        "lengths": [{"length": length, "songs": count} for length, count in lengths],
        "notes": list(report.notes),
        "dropped": report.dropped,
    }


def print_checked(report: DatasetChecked) -> None:
    """Print how long the songs are, what was found, and what would be dropped."""
    seconds = [song.seconds for song in report.songs]
    click.echo(f"{plural(len(seconds), 'usable song')}, {duration(sum(seconds))} of audio")
    _print_lengths(histogram(seconds))
    languages = Counter(song.language for song in report.songs if song.language)
    if languages:
        click.echo("lyrics look like " + ", ".join(f"{code} ({count:,})" for code, count in languages.most_common()))
    _print_findings(report.findings)
    for note in report.notes:
        warn(note)
    dropped = Counter(finding.kind for finding in report.findings if finding.dropped)
    counts = ", ".join(f"{dropped[kind]:,} {kind}" for kind in KINDS if dropped[kind])
    click.echo(f"preprocessing would drop something: {counts}" if counts else "preprocessing would drop nothing")


def print_prompts(report: DatasetChecked) -> None:
    """Print what the model is told of each song, word for word."""
    for song in report.songs:
        click.echo(click.style(song.name, bold=True))
        for text in (song.prompt, song.lyrics):
            for line in text.splitlines():
                click.echo(f"  {visible(line)}".rstrip())
            click.echo()


def _print_lengths(lengths: list[tuple[str, int]]) -> None:
    most = max((count for _, count in lengths), default=0)
    width = max((len(label) for label, _ in lengths), default=0)
    for label, count in lengths:
        bar = "█" * max(round(BAR * count / most), 1 if count else 0)
        click.echo(f"  {label:<{width}}  {bar}{' ' if bar else ''}{count:,}")


def _print_findings(findings: tuple[Finding, ...]) -> None:
    rows = []
    for kind in KINDS:
        of_kind = [finding for finding in findings if finding.kind == kind]
        rows += [(_kind(finding), finding.song, finding.reason) for finding in of_kind[:SHOWN]]
        if len(of_kind) > SHOWN:
            rows.append((_kind(of_kind[0]), f"and {len(of_kind) - SHOWN:,} more", "--json lists all"))
    if rows:
        click.echo()
        print_table(("finding", "song", "what it is"), rows)
        click.echo()


def _kind(finding: Finding) -> str:
    return click.style(finding.kind, fg="red" if finding.dropped else "yellow")
