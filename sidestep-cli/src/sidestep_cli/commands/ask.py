"""`sidestep ask`: something of a run that is training."""

from __future__ import annotations

import click
from sidestep_core import asking
from sidestep_core.asking import WISHES, Wish
from sidestep_core.history import find_run

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

    RUN is its folder, or a name that 'sidestep history' lists. It is done after the step that is going
    on. A run that was stopped goes on with 'train ... --resume-from latest'.

    \b
    sidestep ask output/my_lora preview
    """
    folder = find_run(run, usual_folders()).path
    asking.ask(folder, wish)
    click.echo(f"asked: {plain_path(folder)} {PROMISES[wish]} after this step", err=True)
