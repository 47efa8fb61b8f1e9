"""`sidestep audio-analyze`: tempo, key and metre of songs, measured and noted in their sidecars."""

from __future__ import annotations

import click
from sidestep_core.configs import MeasureConfig
from sidestep_core.errors import Cancelled
from sidestep_core.events import MeasureFinished

from sidestep_cli.display import follow
from sidestep_cli.measure_screen import measure_screen
from sidestep_cli.output import json_option
from sidestep_cli.parts import Group, Resolved, Slot
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import stop_on_signals
from sidestep_cli.slots import SlotCommand

PROMISE = "sidecars that are written stay; run the same command to go on"
ANALYZER = Slot(
    name="analyzer",
    title="Analyzer",
    kind="analyzer",
    default="signal",
    flags=("--analyzer",),
    help="What measures.",
)


@click.command(
    "audio-analyze",
    cls=SlotCommand,
    groups=(Group(name="measure", title="Songs and sidecars", config=MeasureConfig),),
    slots=(ANALYZER,),
)
@json_option
@pass_session
def audio_analyze(session: Session, settings: Resolved, as_json: bool) -> int:
    """Measure tempo, key and metre of songs.

    What is certain enough goes into the sidecar of each song; the rest is shown with a question mark and what it may
    be instead. A song whose sidecar says everything already is left alone.

    \b
    sidestep audio-analyze --input my_songs

    Exit code 1: some songs could not be measured; 2: none could.
    """
    config: MeasureConfig = settings.groups["measure"]
    with stop_on_signals(PROMISE) as stop:
        events = session.toolkit.measure(config, settings.one("analyzer"), cancelled=stop)
        try:
            last = follow(events, measure_screen(as_json=as_json))
        except Cancelled:
            return stop.exit_code(Cancelled.exit_code)
        return stop.exit_code(_exit_code(last) if isinstance(last, MeasureFinished) else 0)


def _exit_code(done: MeasureFinished) -> int:
    if not done.rejected:
        return 0
    return 1 if done.written + done.complete + done.doubtful else 2
