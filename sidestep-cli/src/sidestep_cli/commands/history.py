"""`sidestep history`: the runs there are and were."""

from __future__ import annotations

from pathlib import Path

import attrs
import click
from sidestep_core.history import entries, find_run, forget, known_runs
from sidestep_core.plotting.draw import draw_runs
from sidestep_core.run_compare import differences
from sidestep_core.run_removal import plan_removal, remove
from sidestep_core.runs import Run, find_runs
from sidestep_core.settings import Settings

from sidestep_cli.default_group import DefaultGroup
from sidestep_cli.output import json_option, plain_path, plural, print_json, size
from sidestep_cli.run_text import column_names, print_comparison, print_removal, print_run, print_runs
from sidestep_cli.session import Session, pass_session


@click.group(cls=DefaultGroup, default="list", subcommand_metavar="[COMMAND] ...")
def history() -> None:
    """List past runs; show, compare and delete them.

    'sidestep history' alone is 'sidestep history list'. RUN is the folder of a run, or its name, or how that begins.
    """


@history.command("list")
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Newest runs to list.")
@json_option
def list_(folders: tuple[Path, ...], limit: int, as_json: bool) -> None:
    """List runs, the newest first.

    With FOLDERS, the runs at or below them. Without, those that were begun on this computer, wherever they were
    written, and what lies in the folder of the setting 'adapters_dir', in ./output and in the working folder.
    """
    runs = find_runs(folders, limit=limit) if folders else known_runs(usual_folders(), limit=limit)
    if as_json:
        print_json([attrs.asdict(run) for run in runs])
    elif runs:
        print_runs(runs)
    else:
        click.echo("no runs found; name the folders to look in", err=True)


@history.command()
@click.argument("run")
@json_option
def show(run: str, as_json: bool) -> None:
    """Show how RUN went and what was set."""
    found = find_run(run, usual_folders())
    if as_json:
        print_json(attrs.asdict(found))
    else:
        print_run(found)


@history.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw their losses in a PNG or SVG file.")
@json_option
def compare(runs: tuple[str, ...], plot: Path | None, as_json: bool) -> None:
    """Compare runs: results, and settings that differ."""
    found = find_several(runs)
    if as_json:
        print_json({"runs": [attrs.asdict(run) for run in found], "differences": differences(found)})
    else:
        print_comparison(found)
    if plot is not None:
        draw_runs(found, column_names(found), plot, only_losses=True)
        click.echo(f"drawn in {plain_path(plot)}", err=True)


@history.command()
@click.argument("run")
@click.option("--with-weights", is_flag=True, help="Delete all that the run wrote, its adapters as well.")
@pass_session
def delete(session: Session, run: str, with_weights: bool) -> None:
    """Delete the checkpoints of RUN.

    It keeps its adapters, but cannot be resumed then. A run whose newest weights are in a checkpoint is left alone;
    one that has no weights at all goes as a whole. What somebody else put into the folder always stays. Asks first;
    'sidestep --yes history delete' does not.
    """
    removal = plan_removal(find_run(run, usual_folders()), with_weights=with_weights)
    if not removal.paths:
        click.echo(f"nothing to delete in {plain_path(removal.run)}: it has no checkpoints", err=True)
        return
    print_removal(removal)
    if not session.yes:
        click.confirm("delete?", abort=True, err=True)
    gone = remove(removal)
    click.echo(f"freed {size(removal.bytes)}", err=True)
    if removal.whole and not gone:
        click.echo(f"{plain_path(removal.run)} stays: there are other files in it", err=True)


@history.command("forget")
@click.argument("run")
def forget_(run: str) -> None:
    """Take RUN off the list; its folder stays.

    A run in a folder that is searched anyway, such as ./output, is still found there.
    """
    found = find_run(run, usual_folders())
    known = forget(found.path)
    click.echo(f"{plain_path(found.path)} {'is forgotten' if known else 'was not on the list'}", err=True)


@history.command()
@pass_session
def prune(session: Session) -> None:
    """Take runs off the list whose folders are gone.

    The folder of a run on a disk that is not there now counts as gone, too. Asks first.
    """
    gone = [entry for entry in entries() if entry.is_gone]
    if not gone:
        click.echo("the folder of every run is there", err=True)
        return
    for entry in gone:
        click.echo(plain_path(entry.path), err=True)
    if not session.yes:
        click.confirm(f"forget {plural(len(gone), 'run')}?", abort=True, err=True)
    for entry in gone:
        forget(entry.path)
    click.echo(f"{plural(len(gone), 'run')} forgotten", err=True)


def usual_folders() -> list[Path]:
    """Return the folders where runs usually are, as far as they exist."""
    setting: Path | None = Settings.load().get("adapters_dir")
    return [folder for folder in (setting, Path("output"), Path()) if folder is not None and folder.is_dir()]


def find_several(named: tuple[str, ...]) -> list[Run]:
    """Return the runs that a command line names."""
    folders = usual_folders()
    return [find_run(name, folders) for name in named]
