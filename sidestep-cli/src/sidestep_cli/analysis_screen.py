"""An analysis on the screen: plain lines, lines of JSON, or moving bars; then what was found."""

from __future__ import annotations

import click
from sidestep_core import events
from sidestep_core.analysis.result import as_map
from sidestep_core.events import Event

from sidestep_cli.analysis_text import print_analysis
from sidestep_cli.display import JsonLines, PreprocessLines, Screen
from sidestep_cli.output import json_line, plain_path, plural
from sidestep_cli.session import Session


def analysis_screen(session: Session, *, as_json: bool) -> Screen:
    """Return what shows an analysis in this session."""
    if as_json:
        return AnalysisJson()
    if session.moving:
        from sidestep_cli.analysis_bars import AnalysisBars

        return AnalysisBars()
    return AnalysisLines()


class AnalysisJson(JsonLines):
    """Every event as a line of JSON; the last but one holds the rank map and the scores of all projections."""

    def show(self, event: Event) -> None:
        """Print the event."""
        if not isinstance(event, events.AnalysisFinished):
            super().show(event)
            return
        analysis = event.analysis
        found = {
            "event": "analysis-finished",
            "trainable": analysis.trainable,
            "scores": {module.name: module.score for module in analysis.by_score},
            "map": as_map(analysis),
        }
        click.echo(json_line(found))


class AnalysisLines(PreprocessLines):
    """A line for every song on stderr, what was found on stdout."""

    def show(self, event: Event) -> None:
        """Print what a log should have."""
        match event:
            case events.StageStarted(stage="spectrum"):
                click.echo(f"effective ranks of {plural(event.total, 'weight')}", err=True)
            case events.AnalysisFinished() | events.RankMapSaved():
                show_result(event)
            case _:
                super().show(event)


def show_result(event: Event) -> None:
    """Print what was found, or where it was written."""
    match event:
        case events.AnalysisFinished():
            print_analysis(event.analysis)
        case events.RankMapSaved():
            for path in (event.path, *event.pictures):
                click.echo(f"written: {plain_path(path)}")
