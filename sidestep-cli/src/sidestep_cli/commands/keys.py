"""`sidestep keys`: keys of services, kept by the system."""

from __future__ import annotations

import sys

import click
from sidestep_core.keys import forget_key, key_place, key_variable, store_key
from sidestep_core.options import options_of

from sidestep_cli.output import json_option, print_json, print_table
from sidestep_cli.session import Session, pass_session


@click.group()
def keys() -> None:
    """Keep the keys of services in the system's keyring.

    A key in the environment comes before one in the keyring, a flag before both; other programs can see flags. No key
    is ever written to a file or shown.
    """


@keys.command("list")
@json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List the services that providers have keys of, and where each key is."""
    found = [(service, _place(session, service), key_variable(service)) for service in _services(session)]
    if as_json:
        print_json([{"service": s, "place": place or None, "variable": variable} for s, place, variable in found])
        return
    if not found:
        click.echo("no provider has a key", err=True)
        return
    rows = [(s, place or click.style("not set", dim=True), variable) for s, place, variable in found]
    print_table(("service", "key", "environment variable"), rows)


@keys.command("set")
@click.argument("service")
@pass_session
def set_(session: Session, service: str) -> None:
    """Keep the key of SERVICE, which is typed unseen or read from a pipe."""
    known = _services(session)
    if service not in known:
        raise click.UsageError(f"no provider has a key of {service!r}; there is {', '.join(known) or 'none'}")
    typed = sys.stdin.isatty()
    store_key(service, click.prompt(f"key of {service}", hide_input=True, err=True) if typed else sys.stdin.readline())
    click.echo(f"key of {service} kept in the keyring", err=True)


@keys.command()
@click.argument("service")
def forget(service: str) -> None:
    """Remove the key of SERVICE from the keyring."""
    click.echo(f"key of {service} {'removed' if forget_key(service) else 'was not there'}", err=True)


def _place(session: Session, service: str) -> str:
    """Return where a key is; a plugin may know one that is in neither place."""
    return key_place(service) or ("plugin" if session.toolkit.plugins.secret(service) else "")


def _services(session: Session) -> list[str]:
    """Return the services whose keys providers take, in order."""
    specs = session.toolkit.registry("provider").every()
    keyed = (s for s in specs if s.config is not None and any(option.secret for option in options_of(s.config)))
    return sorted({spec.service or spec.name for spec in keyed})
