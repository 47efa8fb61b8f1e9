"""`sidestep settings`: the user's own settings."""

from __future__ import annotations

import click
from sidestep_core.settings import TABLES, Settings
from sidestep_core.specs import ProviderType

from sidestep_cli.output import json_option, print_json, print_table
from sidestep_cli.session import Session, pass_session


@click.group()
def settings() -> None:
    """Show and change your settings.

    They stand in one TOML file ('sidestep settings path' prints its name). A flag on the command line always wins.
    """


@settings.command()
@json_option
def show(as_json: bool) -> None:
    """Show every setting there is, with what it is set to."""
    settings = Settings.load()
    found = [(s.key, _text(s.value, s.option.secret), s.option.help) for s in settings.items()]
    found += [(key, _text(value, False), "A provider's own setting.") for key, value in settings.of_providers()]
    if as_json:
        print_json({key: value for key, value, _ in found})
        return
    rows = [(key, click.style("not set", dim=True) if value is None else value, help_) for key, value, help_ in found]
    print_table(("setting", "value", "what it is"), rows)


@settings.command("set")
@click.argument("key")
@click.argument("value")
@pass_session
def set_(session: Session, key: str, value: str) -> None:
    """Set KEY to VALUE; several values are separated by commas.

    A provider's own settings are keys, too, such as 'openai.model'.
    """
    settings = Settings.load()
    if (provider := _provider(session, key)) is not None:
        settings.set_of_provider(provider.name, provider.config, key.partition(".")[2], value)
    else:
        settings.set(key, value)
    click.echo(f"{key} set in {settings.path}", err=True)


@settings.command()
@click.argument("key")
@pass_session
def clear(session: Session, key: str) -> None:
    """Remove KEY, so that its default holds again."""
    settings = Settings.load()
    if (provider := _provider(session, key)) is not None:
        settings.set_of_provider(provider.name, provider.config, key.partition(".")[2], None)
    else:
        settings.clear(key)
    click.echo(f"{key} cleared in {settings.path}", err=True)


@settings.command()
def path() -> None:
    """Print where the settings file is (or will be)."""
    click.echo(Settings.load().path)


def _provider(session: Session, key: str) -> ProviderType | None:
    """Return the provider that a key such as `gemini.model` belongs to, None where it belongs to none."""
    name, dot, _ = key.partition(".")
    if not dot or name in TABLES or name not in session.toolkit.registry("provider"):
        return None
    found: ProviderType = session.toolkit.registry("provider")[name]
    return found


def _text(value: object, secret: bool) -> str | None:
    if value is None:
        return None
    if secret:
        return "********"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
