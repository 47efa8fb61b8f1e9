"""`sidestep settings`: the user's own settings."""

from __future__ import annotations

import click
from sidestep_core.settings import Settings

from sidestep_cli.output import json_option, print_json, print_table


@click.group()
def settings() -> None:
    """Show and change your settings.

    They stand in one TOML file ('sidestep settings path' prints its name). A flag on the command line always wins.
    """


@settings.command()
@json_option
def show(as_json: bool) -> None:
    """Show every setting there is, with what it is set to."""
    found = [(s.key, _text(s.value, s.option.secret), s.option.help) for s in Settings.load().items()]
    if as_json:
        print_json({key: value for key, value, _ in found})
        return
    rows = [(key, click.style("not set", dim=True) if value is None else value, help_) for key, value, help_ in found]
    print_table(("setting", "value", "what it is"), rows)


@settings.command("set")
@click.argument("key")
@click.argument("value")
def set_(key: str, value: str) -> None:
    """Set KEY to VALUE; several values are separated by commas."""
    settings = Settings.load()
    settings.set(key, value)
    click.echo(f"{key} set in {settings.path}", err=True)


@settings.command()
@click.argument("key")
def clear(key: str) -> None:
    """Remove KEY, so that its default holds again."""
    settings = Settings.load()
    settings.clear(key)
    click.echo(f"{key} cleared in {settings.path}", err=True)


@settings.command()
def path() -> None:
    """Print where the settings file is (or will be)."""
    click.echo(Settings.load().path)


def _text(value: object, secret: bool) -> str | None:
    if value is None:
        return None
    if secret:
        return "********"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
