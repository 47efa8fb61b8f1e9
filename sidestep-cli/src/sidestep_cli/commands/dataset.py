"""`sidestep dataset`: songs and captions listed in one file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

import attrs
import click
from click.core import ParameterSource
from sidestep_core.dataset import scan_folder
from sidestep_core.dataset_file import write_dataset
from sidestep_core.songs import TagPosition

from sidestep_cli.commands.dataset_check import check
from sidestep_cli.output import plain_path, plural, warn


@click.group(invoke_without_command=True, subcommand_metavar="[check ...]")
@click.option("-i", "--input", "folder", type=click.Path(path_type=Path), help="Folder of songs.  [required]")
@click.option("--tag", default="", help="Trigger tag for songs that name none themselves.")
@click.option(
    "--tag-position",
    type=click.Choice(get_args(TagPosition)),
    default="prepend",
    show_default=True,
    help="Where the trigger tag goes in the caption.",
)
@click.option(
    "--genre-ratio",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Per cent of songs described by their genre instead of a caption.",
)
@click.option("--name", default="local_dataset", show_default=True, help="Name of the dataset.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write; FOLDER/dataset.json when not given.")
@click.pass_context
def dataset(
    ctx: click.Context,
    folder: Path | None,
    tag: str,
    tag_position: str,
    genre_ratio: int,
    name: str,
    output: Path | None,
) -> int:
    """List a folder's songs and captions in one file, or check them.

    The file can be edited by hand and given to 'sidestep preprocess --dataset-json'. ACE-Step reads it as well.

    Exit code 1: something about a song could not be used as it is.
    """
    if ctx.invoked_subcommand:
        if any(ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE for param in dataset.params):
            raise click.UsageError(f"options of '{ctx.invoked_subcommand}' stand behind it", ctx)
        return 0
    if folder is None:
        raise click.MissingParameter(ctx=ctx, param=dataset.params[0])
    from sidestep_core.audio.decode import probe

    songs = scan_folder(folder)
    position = cast(TagPosition, tag_position)
    songs = attrs.evolve(songs, name=name, custom_tag=tag, tag_position=position, genre_ratio=genre_ratio)
    file = output or folder / "dataset.json"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    unmeasured = write_dataset(songs, file, created_at=created, seconds=lambda path: probe(path).seconds)
    problems = (*songs.problems, *unmeasured)
    for problem in problems:
        warn(str(problem))
    click.echo(f"{plural(len(songs.songs), 'song')} in {plain_path(file)}")
    return 1 if problems else 0


dataset.add_command(check)
