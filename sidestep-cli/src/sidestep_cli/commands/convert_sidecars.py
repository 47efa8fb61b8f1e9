"""`sidestep convert-sidecars`: captions and lyrics from and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from sidestep_core.layouts.beside import PlainText
from sidestep_core.layouts.convert import ConversionPlan, plan_conversion, write_conversion
from sidestep_core.layouts.write import LAYOUTS, Layout, write_layout
from sidestep_core.songs import Problem

from sidestep_cli.inputs import input_path
from sidestep_cli.output import plain_path, plural, print_diff, print_table, warn
from sidestep_cli.session import Session, pass_session


@click.command()
@input_path("source", file_okay=True)
@click.option(
    "--audio-dir",
    type=click.Path(path_type=Path),
    help="Where the songs of a dataset file or table are; its own folder when not given.",
)
@click.option(
    "--plain-text",
    type=click.Choice(get_args(PlainText)),
    help="What song.txt is where it has neither keys nor tags; asked for where the text does not tell.",
)
@click.option("--overwrite", is_flag=True, help="Let what is found win over what sidecars say; asks first.")
@click.option("--dry-run", is_flag=True, help="Show what would change and write nothing.")
@click.option(
    "--to", "layout", type=click.Choice(LAYOUTS), help="Write the sidecars of a folder in this layout instead."
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder to make for --to.")
@click.option("-y", "--yes", is_flag=True, hidden=True)
@pass_session
def convert_sidecars(
    session: Session,
    source: Path,
    audio_dir: Path | None,
    plain_text: PlainText | None,
    overwrite: bool,
    dry_run: bool,
    layout: Layout | None,
    output: Path | None,
    yes: bool,
) -> int:
    """Make sidecars of what other programs wrote, or write what they read.

    SOURCE is a folder of songs with files of other programs beside them, a dataset file (.json) or a table (.csv)
    with a column 'file'. Beside songs are read: song.json; song.caption.txt and song.lyrics.txt, as ACE-Step and
    Side-Step have them; song_prompt.txt and song_lyrics.txt; song.txt and song.lyrics of SimpleTuner; song.txt with
    <CAPTION> and other tags of ai-toolkit.

    What a sidecar says already stays, and what it leaves empty is filled. Other files are not touched, and what is
    replaced is kept as song.txt.bak.

    \b
    sidestep convert-sidecars my_songs --dry-run
    sidestep convert-sidecars their_songs/dataset.json
    sidestep convert-sidecars my_songs --to ai-toolkit --output for_ai_toolkit

    Exit code 1: something could not be converted.
    """
    if (layout is None) != (output is None):
        raise click.UsageError("--to and --output go together")
    if layout is not None and output is not None:
        if dry_run or overwrite or audio_dir or plain_text:
            raise click.UsageError("--to takes --output alone: nothing that is there is changed")
        return _write(source, layout, output)
    plan = plan_conversion(source, audio_dir=audio_dir, plain=plain_text, overwrite=overwrite)
    if overwrite and plan.changes and not (dry_run or yes or session.yes):
        question = f"overwrite what {plural(len(plan.changes), 'sidecar')} may say already?"
        click.confirm(question, abort=True, err=True)
    if not dry_run:
        write_conversion(plan)
    root = source if source.is_dir() else audio_dir or source.parent
    _print_changes(plan, root, dry_run=dry_run)
    _print_rest(plan, dry_run=dry_run)
    return 1 if plan.problems else 0


def _write(source: Path, layout: Layout, output: Path) -> int:
    if not source.is_dir():
        raise click.UsageError(f"--to writes the sidecars of a folder, and '{source}' is a file; convert that first")
    from sidestep_core.audio.decode import probe

    written = write_layout(source, layout, output, seconds=lambda path: probe(path).seconds)
    _warn(written.problems)
    click.echo(f"{plural(written.files, 'file')} for {plural(written.songs, 'song')} in {plain_path(output)}")
    return 1 if written.problems else 0


def _print_changes(plan: ConversionPlan, root: Path, *, dry_run: bool) -> None:
    names = [_below(root, change.path) for change in plan.changes]
    if dry_run:
        for name, change in zip(names, plan.changes, strict=True):
            print_diff(name, change.lines)
    elif names:
        sources = [", ".join(source.name for source in change.sources) for change in plan.changes]
        print_table(("sidecar", "from"), list(zip(names, sources, strict=True)))


def _print_rest(plan: ConversionPlan, *, dry_run: bool) -> None:
    _warn((*plan.notes, *plan.problems))
    if plan.settings:
        click.echo(f"of all songs it says: give 'sidestep preprocess' {plan.settings}", err=True)
    written = f"{plural(len(plan.changes), 'sidecar')} {'would be ' if dry_run else ''}written"
    complete = f", {plan.complete:,} said it all before" if plan.complete else ""
    nothing = not (plan.changes or plan.complete or plan.problems)
    click.echo("nothing to convert" if nothing else written + complete, err=True)


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems:
        warn(str(problem))


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else plain_path(path)
