"""`sidestep plot`: runs as a picture."""

from __future__ import annotations

from pathlib import Path

import click
from sidestep_core.plotting.draw import draw_runs

from sidestep_cli.commands.history import find_several
from sidestep_cli.output import plain_path
from sidestep_cli.run_text import column_names


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN ...")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="plot.png",
    show_default=True,
    help="PNG or SVG file to write.",
)
def plot(runs: tuple[str, ...], out: Path) -> None:
    """Draw runs: losses, learning rate, and what was learned at which timestep.

    RUN is the folder of a run, or its name, or how that begins; 'sidestep history' lists them. Several are drawn over
    each other. A run may still go on.
    """
    found = find_several(runs)
    draw_runs(found, column_names(found), out)
    click.echo(plain_path(out))
