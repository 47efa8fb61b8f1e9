"""`sidestep ask`: something of a run that is training."""

from __future__ import annotations

from pathlib import Path

import click
from sidestep_core import asking
from sidestep_core.asking import WISHES, Wish
from sidestep_core.errors import ConfigError
from sidestep_core.runs import RECORD, find_runs

from sidestep_cli.commands.history import usual_folders
from sidestep_cli.output import plain_path

PROMISES: dict[Wish, str] = {
    "save": "saves a checkpoint",
    "preview": "makes a preview",
    "stop": "saves and stops",
}


@click.command()
@click.argument("run")
@click.argument("wish", type=click.Choice(WISHES))
def ask(run: str, wish: Wish) -> None:
    """Ask a run that is training for a checkpoint, a preview, or to stop.

    RUN is its folder, or its name if it lies where 'sidestep history' looks. It is done after the step that is going
    on. A run that was stopped goes on with 'train ... --resume-from latest'.

    \b
    sidestep ask output/my_lora preview
    """
    folder = _find(run)
    asking.ask(folder, wish)
    click.echo(f"asked: {plain_path(folder)} {PROMISES[wish]} after this step", err=True)


def _find(name: str) -> Path:
    folder = Path(name)
    if (folder / RECORD).is_file():
        return folder
    found = [run.path for run in find_runs(usual_folders()) if run.name == name]
    if len(found) > 1:
        raise ConfigError(f"{len(found)} runs are called {name!r}; give the folder: {', '.join(map(str, found))}")
    if not found:
        raise ConfigError(f"no run {name!r}; 'sidestep history' lists those there are, or give the folder of one")
    return found[0]
