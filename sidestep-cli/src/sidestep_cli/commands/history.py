"""`sidestep history`: past runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
import click
from sidestep_core.runs import Run, find_runs
from sidestep_core.settings import Settings

from sidestep_cli.output import json_option, plain_path, print_json, print_table

COLOURS = {"complete": "green", "max-steps": "green", "early-stop": "green", "failed": "red"}


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Newest runs to list.")
@json_option
def history(folders: tuple[Path, ...], limit: int, as_json: bool) -> None:
    """List past runs and their losses, the newest first.

    Runs are looked for in FOLDERS; without any, in the folder of the setting 'adapters_dir', in ./output and in the
    working folder.
    """
    runs = find_runs(folders or usual_folders())[:limit]
    if as_json:
        print_json([_as_dict(run) for run in runs])
    elif runs:
        headings = ("started", "ended", "adapter", "model", "steps", "best loss", "folder")
        print_table(headings, [_row(run) for run in runs], right=("steps", "best loss"))
    else:
        click.echo("no runs found; name the folders to look in", err=True)


def usual_folders() -> list[Path]:
    """Return where runs are looked for when no folder is named."""
    setting: Path | None = Settings.load().get("adapters_dir")
    return [folder for folder in (setting, Path("output"), Path()) if folder is not None and folder.is_dir()]


def _row(run: Run) -> tuple[str, ...]:
    return (
        time.strftime("%y-%m-%d %H:%M", time.localtime(run.created)),
        click.style(run.status, fg=COLOURS.get(run.status, "yellow")),
        run.adapter_type,
        run.variant,
        f"{run.step:,}/{run.total_steps:,}",
        "-" if run.best_loss is None else f"{run.best_loss:.4f}",
        plain_path(run.path),
    )


def _as_dict(run: Run) -> dict[str, Any]:
    return attrs.asdict(run)
