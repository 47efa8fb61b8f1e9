"""`sidestep providers`: who can describe songs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from sidestep_core.describing.prompt import prompt_path, prompt_text

from sidestep_cli.output import json_option, plain_path, print_json, print_table
from sidestep_cli.parts import Resolved, Slot, last, peek
from sidestep_cli.session import Session, pass_session
from sidestep_cli.slots import SlotCommand

PROVIDER = Slot(
    name="provider", title="Provider", kind="provider", default="", flags=("--provider",), help="Whom to check."
)


@click.group()
def providers() -> None:
    """List who can describe songs, check them, and see what they are asked."""


@providers.command("list")
@json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List the providers and what they give."""
    specs = sorted(session.toolkit.registry("provider").every(), key=lambda spec: str(spec.name))
    if as_json:
        keys = ("name", "summary", "offline")
        print_json([{k: getattr(s, k) for k in keys} | {"supplies": sorted(s.supplies)} for s in specs])
        return
    if not specs:
        click.echo("no provider is installed", err=True)
        return
    rows = [
        (s.name, "here" if s.offline else "network", ", ".join(sorted(s.supplies)), f"{s.summary}{_needs(s.missing())}")
        for s in specs
    ]
    print_table(("provider", "runs", "gives", "what it is"), rows)


class CheckCommand(SlotCommand):
    """A command that takes its component as its first word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name where its flag is, then parse."""
        named = [PROVIDER.flags[0], *args] if args and not args[0].startswith("-") else args
        return super().parse_args(ctx, named)

    def saved_tables(self, ctx: click.Context, args: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return what is set for the provider that is checked."""
        name = last(peek(args, PROVIDER.flags))
        return {PROVIDER.name: {"type": name, **ctx.ensure_object(Session).toolkit.settings.of_provider(name)}}


@providers.command(cls=CheckCommand, groups=(), slots=(PROVIDER,), options_metavar="NAME [OPTIONS]")
@pass_session
def check(session: Session, settings: Resolved) -> None:
    """Ask provider NAME whether it would answer, which costs nothing."""
    click.echo(session.toolkit.check_provider(settings.one(PROVIDER.name)))


@providers.command()
@click.option("--path", is_flag=True, help="Print where a prompt of your own stands instead.")
def prompt(path: bool) -> None:
    """Print what language models are asked about a song.

    A text of your own takes its place: 'sidestep providers prompt --path' prints where it has to stand.
    """
    click.echo(plain_path(prompt_path()) if path else prompt_text(), nl=path)


def _needs(missing: tuple[str, ...]) -> str:
    return f" (needs {', '.join(missing)})" if missing else ""
