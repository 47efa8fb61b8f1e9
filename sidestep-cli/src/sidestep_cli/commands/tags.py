"""`sidestep tags`: the trigger tags of many songs at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
from sidestep_core.songs import TagPosition
from sidestep_core.tags import TagOperation, edit_tags, list_tags

from sidestep_cli.inputs import input_path
from sidestep_cli.output import json_option, plural, print_diff, print_json, print_table
from sidestep_cli.session import Session, pass_session

songs_folder = input_path("folder", file_okay=False)


def _tag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("-t", "--tag", required=True, help="The tag; several with commas between them.")(command)


def _dry_run(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--dry-run", is_flag=True, help="Show what would change and write nothing.")(command)


@click.group()
def tags() -> None:
    """Change the trigger tag of many songs at once.

    Tags stand in the sidecar of each song, 'custom_tag: my style'; preprocessing puts them into its caption. A tag is
    a whole one: 'jazz' does not touch 'jazz piano'.
    """


@tags.command("list")
@songs_folder
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List the songs of FOLDER with their tags."""
    found = list_tags(folder)
    if as_json:
        print_json([{"song": song.path.relative_to(folder).as_posix(), "tags": list(song.tags)} for song in found])
    elif found:
        rows = [(song.path.relative_to(folder).as_posix(), ", ".join(song.tags) or "-") for song in found]
        print_table(("song", "tags"), rows)
    else:
        click.echo(f"no songs in '{folder}'", err=True)


@tags.command()
@songs_folder
@_tag
@click.option(
    "--position",
    type=click.Choice(get_args(TagPosition)),
    default="prepend",
    show_default=True,
    help="Where it goes among a song's other tags; replace makes it the only one.",
)
@_dry_run
def add(folder: Path, tag: str, position: TagPosition, dry_run: bool) -> None:
    """Give the songs of FOLDER a tag, where they do not have it."""
    _edit(folder, "add", tag, position=position, dry_run=dry_run)


@tags.command()
@songs_folder
@_tag
@_dry_run
def remove(folder: Path, tag: str, dry_run: bool) -> None:
    """Take a tag away from the songs of FOLDER."""
    _edit(folder, "remove", tag, dry_run=dry_run)


@tags.command("set")
@songs_folder
@_tag
@_dry_run
def set_(folder: Path, tag: str, dry_run: bool) -> None:
    """Make a tag the only one of the songs of FOLDER."""
    _edit(folder, "set", tag, dry_run=dry_run)


@tags.command()
@songs_folder
@_dry_run
@pass_session
def clear(session: Session, folder: Path, dry_run: bool) -> None:
    """Take all tags away from the songs of FOLDER; asks first."""
    if not dry_run and not session.yes:
        click.confirm(f"remove all tags of all songs in '{folder}'?", abort=True, err=True)
    _edit(folder, "clear", dry_run=dry_run)


def _edit(
    folder: Path, operation: TagOperation, tag: str = "", *, position: TagPosition = "prepend", dry_run: bool
) -> None:
    changes = edit_tags(folder, operation, tag, position=position, dry_run=dry_run)
    names = [change.path.relative_to(folder).as_posix() for change in changes]
    if dry_run:
        for name, change in zip(names, changes, strict=True):
            print_diff(name, change.lines)
    elif changes:
        tags = [[", ".join(some) or "-" for some in (change.before, change.after)] for change in changes]
        print_table(("sidecar", "before", "after"), [(name, *cells) for name, cells in zip(names, tags, strict=True)])
    click.echo(f"{plural(len(changes), 'sidecar')} {'would change' if dry_run else 'changed'}", err=True)
