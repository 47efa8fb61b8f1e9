"""`sidestep captions`: captions, lyrics and metadata from providers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.plan import ALONG, DESCRIPTION
from sidestep_core.describing.plan import METADATA as METADATA_FIELDS
from sidestep_core.describing.request import DescribeRequest
from sidestep_core.errors import Cancelled, ConfigError
from sidestep_core.events import DescribeFinished
from sidestep_core.options import options_of
from sidestep_core.requests import Choice

from sidestep_cli.describe_screen import describe_screen, print_describe_plan
from sidestep_cli.display import follow
from sidestep_cli.output import json_option
from sidestep_cli.parts import Group, Resolved, Slot, last, peek
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import stop_on_signals
from sidestep_cli.slots import SlotCommand

PROMISE = "the songs at hand are finished and kept; run the same command to go on"
GROUP = Group(name="captions", title="Songs and sidecars", config=CaptionsConfig)
PROVIDER = Slot(
    name="provider",
    title="Captions",
    kind="provider",
    default="",
    flags=("--provider",),
    none=("lyrics_only", "none"),
    supplies=DESCRIPTION,
    help="Who describes the songs; the settings say it, else it is gemini.",
)
LYRICS = Slot(
    name="lyrics",
    title="Lyrics",
    kind="provider",
    default="",
    flags=("--lyrics-provider",),
    none=("none",),
    supplies=frozenset({"lyrics"}),
    help="Who knows the lyrics; the settings say it, else it is genius.",
)
METADATA = Slot(
    name="metadata",
    title="Metadata",
    kind="provider",
    default="",
    flags=("--metadata-provider",),
    none=("none",),
    supplies=METADATA_FIELDS - ALONG,
    help="Who gives genre, tempo, key and time signature, if somebody else.",
)
SLOTS = (PROVIDER, LYRICS, METADATA)
# the setting that names each slot's provider, and who it is where neither flag nor setting does
SETTINGS = {PROVIDER.name: "provider", LYRICS.name: "lyrics_provider", METADATA.name: "metadata_provider"}
USUAL = {PROVIDER.name: "gemini", LYRICS.name: "genius"}


class CaptionsCommand(SlotCommand):
    """A command whose providers and their settings come from the user's settings where no flag names them."""

    def saved_tables(self, ctx: click.Context, args: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return a table for each slot: its provider and what is set for that."""
        toolkit = ctx.ensure_object(Session).toolkit
        tables = {}
        for slot in SLOTS:
            usual = USUAL.get(slot.name, "")
            there = usual if usual in toolkit.registry("provider") else ""
            name = last(peek(args, slot.flags)) or toolkit.settings.get(SETTINGS[slot.name]) or there
            tables[slot.name] = {"type": name, **toolkit.settings.of_provider(name)}
        folder = toolkit.settings.get("audio_dir")
        return {**tables, GROUP.name: {"audio_dir": str(folder)} if folder else {}}


@click.command(cls=CaptionsCommand, groups=(GROUP,), slots=SLOTS)
@click.option("--dry-run", is_flag=True, help="Show what would be asked about which song, and ask nobody.")
@json_option
@pass_session
def captions(session: Session, settings: Resolved, dry_run: bool, as_json: bool) -> int:
    """Have songs described: captions, lyrics, genre, tempo, key and time signature.

    Only what is missing in a song's sidecar is asked for, and what comes back is written at once. What you wrote stays
    unless --policy says otherwise; what was measured stays in any case. 'sidestep providers list' shows who can be
    asked, 'sidestep keys set SERVICE' keeps a key.

    \b
    sidestep captions --audio-dir my_songs --provider NAME
    sidestep captions --audio-dir my_songs --provider NAME --dry-run

    The options follow the providers: 'sidestep captions --provider NAME --help' shows its own.

    Exit code 1: some songs could not be described; 2: none could.
    """
    request = request_of(click.get_current_context(), session, settings)
    if dry_run:
        print_describe_plan(session.toolkit.plan_describing(request), as_json=as_json)
        return 0
    with stop_on_signals(PROMISE) as stop:
        events = session.toolkit.describe(request, cancelled=stop)
        try:
            done = follow(events, describe_screen(as_json=as_json))
        except Cancelled:
            return stop.exit_code(Cancelled.exit_code)
        return stop.exit_code(_exit_code(done) if isinstance(done, DescribeFinished) else 0)


def request_of(ctx: click.Context, session: Session, settings: Resolved) -> DescribeRequest:
    """Return what a command line asks for.

    Raises:
        ConfigError: nobody is chosen to describe songs, and nobody is there to do so by default.
    """
    config: CaptionsConfig = settings.groups[GROUP.name]
    said = {slot.name for slot in SLOTS if _is_typed(ctx, f"{slot.name}_type")}
    chosen = dict(_choices(ctx, settings))
    if not config.lyrics:
        chosen.pop(LYRICS.name, None)
    if not said and PROVIDER.name not in chosen:
        raise ConfigError(_nobody(list(session.toolkit.registry("provider"))))
    lyrics = chosen.get(LYRICS.name)
    by_itself = LYRICS.name not in said and not session.toolkit.settings.get(SETTINGS[LYRICS.name])
    return DescribeRequest(
        config=config,
        provider=chosen.get(PROVIDER.name),
        lyrics=lyrics,
        metadata=chosen.get(METADATA.name),
        optional=frozenset({lyrics.name} if lyrics is not None and by_itself else ()),
    )


def _choices(ctx: click.Context, settings: Resolved) -> Iterator[tuple[str, Choice]]:
    """Yield the choice of each slot; what was typed for one holds for the other parts of the same provider."""
    seen: set[str] = set()
    for slot in SLOTS:
        for choice in settings.slots.get(slot.name, ()):
            names = [option.name for option in options_of(type(choice.config))] if choice.config is not None else []
            typed = any(_is_typed(ctx, f"{slot.name}__{name}") for name in names)
            yield slot.name, choice if typed or choice.name not in seen else Choice(name=choice.name)
            seen.add(choice.name)


def _is_typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _exit_code(done: DescribeFinished) -> int:
    if not done.failed and not done.ended:
        return 0
    return 1 if done.written or done.complete or done.unchanged else 2


def _nobody(there: list[str]) -> str:
    if not there:
        return "no provider is installed: pip install 'sidestep-cli[all]'"
    return f"nobody is chosen to describe songs: give --provider NAME; there is {', '.join(there)}"
