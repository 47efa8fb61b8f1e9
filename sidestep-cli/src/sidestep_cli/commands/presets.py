"""`sidestep presets`: named sets of settings."""

from __future__ import annotations

import click
from sidestep_core.presets import find_preset, list_presets, user_folder

from sidestep_cli.output import json_option, print_json, print_table
from sidestep_cli.session import Session, pass_session


@click.group()
def presets() -> None:
    """List presets and show what they set.

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
        return
    import tomli_w

    described = {"description": preset.description} if preset.description else {}
    click.echo(tomli_w.dumps({**described, **preset.tables}).rstrip())
