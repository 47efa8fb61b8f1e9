"""Runs as people read them: a row of a listing, all about one, several side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sidestep_core.run_compare import differences
from sidestep_core.run_removal import Removal
from sidestep_core.runs import Run, find_adapters

from sidestep_cli.output import duration, plain_path, print_facts, print_table, shorten, size

GOOD, BAD = ("complete", "max-steps", "early-stop"), ("failed", "lost", "missing")
HEADINGS = ("started", "status", "adapter", "model", "steps", "best loss", "folder")
MAX_NAME = 28


def print_runs(runs: Sequence[Run]) -> None:
    """Print a row for each run."""
    print_table(HEADINGS, [_row(run) for run in runs], right=("steps", "best loss"))


def print_run(run: Run) -> None:
    """Print how a run went, where its weights are, and what was set."""
    print_facts([(name, value) for name, value in _facts(run) if value])
    if run.settings:
        click.echo()
        print_facts([(table, text) for table, values in run.settings.items() if (text := _settings(values))])


def print_comparison(runs: Sequence[Run]) -> None:
    """Print the results of runs and the settings that are not the same in all of them, a column for each run."""
    names = column_names(runs)
    results = [
        ("status", *(_status(run) for run in runs)),
        ("steps", *(f"{run.step:,}/{run.total_steps:,}" for run in runs)),
        ("took", *("-" if run.seconds is None else duration(run.seconds) for run in runs)),
        ("loss", *(_loss(run.loss) for run in runs)),
        ("best loss", *(f"{_loss(run.best_loss)} {_source(run)}".rstrip() for run in runs)),
    ]
    print_table(("result", *names), results)
    apart = differences(runs)
    click.echo()
    if apart:
        rows = [(name, *(shorten(_value(value), MAX_NAME) for value in values)) for name, values in apart.items()]
        print_table(("setting", *names), rows)
    else:
        click.echo("all settings are the same")


def print_removal(removal: Removal) -> None:
    """Print on stderr what goes, what stays and what is lost."""

    def say(what: str, paths: Sequence[Path]) -> None:
        if paths:
            listed = ", ".join(str(path.relative_to(removal.run)) for path in paths)
            click.echo(f"{what}: {listed}", err=True)

    say(f"to delete in {plain_path(removal.run)} ({size(removal.bytes)})", removal.paths)
    say("kept", removal.kept)
    say(click.style("adapters that are lost for good", fg="red"), removal.lost)


def column_names(runs: Sequence[Run]) -> list[str]:
    """Return a short name for each run that tells it from the others."""
    count = Counter(run.path.name for run in runs)
    return [shorten(run.path.name if count[run.path.name] == 1 else plain_path(run.path), MAX_NAME) for run in runs]


def _row(run: Run) -> tuple[str, ...]:
    return (
        _moment(run.created),
        _status(run),
        run.adapter_type,
        run.variant,
        f"{run.step:,}/{run.total_steps:,}",
        _loss(run.best_loss),
        plain_path(run.path),
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "run", run.name
    yield "folder", plain_path(run.path)
    yield "status", _status(run) + (f": {run.error}" if run.error else "")
    yield "started", _moment(run.created)
    yield "took", "" if run.seconds is None else duration(run.seconds)
    yield "adapter", run.adapter_type
    yield "model", " ".join(filter(None, (run.variant, f"({run.model})" if run.model else "")))
    yield "steps", f"{run.step:,} of {run.total_steps:,}, epoch {run.epoch:,} of {run.epochs:,}"
    yield "loss", _loss(run.loss)
    yield "best loss", f"{_loss(run.best_loss)} {_source(run)}".rstrip()
    adapters = find_adapters(run.path)
    yield "weights", plain_path(adapters[0]) if adapters else "none"
    yield "also in", ", ".join(str(path.relative_to(run.path)) for path in adapters[1:])
    if run.status == "lost":
        yield "what now", "its process ended without a word; 'sidestep train ... --resume-from latest' goes on"


def _status(run: Run) -> str:
    colour = "green" if run.status in GOOD else "red" if run.status in BAD else "yellow"
    return click.style(run.status, fg=colour)


def _source(run: Run) -> str:
    return {"validation": "(held-out songs)", "epoch": "(an epoch)", "step": "(a report)"}.get(run.best_of, "")


def _loss(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


def _moment(seconds: float) -> str:
    return time.strftime("%y-%m-%d %H:%M", time.localtime(seconds))


def _settings(values: Any) -> str:
    """Return a table's settings that say something in one line."""
    if isinstance(values, Mapping):
        return ", ".join(f"{name} {_value(value)}" for name, value in values.items() if value not in (None, "", []))
    if isinstance(values, list):
        return "; ".join(_settings(value) for value in values)
    return _value(values)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "-"
    return str(value)
