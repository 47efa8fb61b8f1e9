"""`sidestep presets`: named sets of settings."""

from __future__ import annotations

from pathlib import Path

import attrs
import click
from sidestep_core.errors import ConfigError
from sidestep_core.files import write_atomic
from sidestep_core.presets import (
    Preset,
    delete_preset,
    find_preset,
    list_presets,
    preset_text,
    save_preset,
    shareable,
    user_folder,
)

from sidestep_cli.commands.train import GROUPS, SLOTS
from sidestep_cli.output import json_option, print_json, print_table
from sidestep_cli.parts import Resolved
from sidestep_cli.preset_tables import given_tables, read_foreign
from sidestep_cli.session import Session, pass_session
from sidestep_cli.slots import SlotCommand

force_option = click.option("-f", "--force", is_flag=True, help="Replace what is there.")


@click.group()
def presets() -> None:
    """List, show, save and share presets.

    A preset is a TOML file with a table for each part of a run; 'sidestep train --preset NAME' starts from one, and
    flags change it. Files in your presets folder are listed beside those that plugins bring.
    """


@presets.command("list")
@json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List all presets by name."""
    found = list_presets(session.toolkit.plugins)
    if as_json:
        print_json([{"name": p.name, "origin": p.origin, "description": p.description} for p in found])
    elif found:
        print_table(("preset", "from", "what it is for"), [(p.name, p.origin, p.description) for p in found])
    else:
        click.echo(f"no presets yet: save one as {user_folder() / 'NAME.toml'}", err=True)


@presets.command()
@click.argument("name")
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show what preset NAME (or a .toml file) sets, as TOML."""
    preset = find_preset(name, session.toolkit.plugins)
    if as_json:
        print_json(preset.tables)
    else:
        click.echo(preset_text(preset).rstrip())


@presets.command(cls=SlotCommand, groups=GROUPS, slots=SLOTS)
@click.argument("name")
@click.option("--description", default="", help="What it is for, in a line.")
@click.option("--preset", metavar="NAME|PATH", help="Start from a preset: its name, or a .toml file.")
@click.option("--config", metavar="PATH", help="Take flags from a JSON object; those on the command line win.")
@force_option
def save(settings: Resolved, name: str, description: str, preset: str | None, config: str | None, force: bool) -> None:
    """Save the given flags of 'sidestep train' as preset NAME of yours.

    Only what is given is saved, with the preset it starts from; all else keeps its default. Folders, the device and
    the name of the run stay out.
    """
    _save(Preset(name=name, origin="user", description=description, tables=given_tables(settings, SLOTS)), force)


@presets.command()
@click.argument("name")
@pass_session
def delete(session: Session, name: str) -> None:
    """Delete preset NAME of yours."""
    path = delete_preset(name, session.toolkit.plugins)
    click.echo(f"deleted {path}", err=True)


@presets.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the preset; the file's when not given.")
@force_option
@pass_session
def import_(session: Session, file: Path, name: str | None, force: bool) -> None:
    """Take in a preset FILE: one of sidestep's (.toml), or one of Side-Step's (.json)."""
    preset = read_foreign(file, session)
    _save(attrs.evolve(preset, name=name or preset.name), force)


@presets.command()
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@force_option
@pass_session
def export(session: Session, name: str, file: Path, force: bool) -> None:
    """Write preset NAME to FILE, for others to import."""
    if file.exists() and not force:
        raise ConfigError(f"'{file}' is there already; replace it with --force")
    write_atomic(file, preset_text(find_preset(name, session.toolkit.plugins)))
    click.echo(file)


def _save(preset: Preset, force: bool) -> None:
    tables, left = shareable(preset.tables)
    if left:
        click.echo(f"not saved, since they belong to one machine or run: {', '.join(left)}", err=True)
    click.echo(save_preset(attrs.evolve(preset, tables=tables), overwrite=force))
