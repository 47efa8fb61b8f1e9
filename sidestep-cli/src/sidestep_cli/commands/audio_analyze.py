"""`sidestep audio-analyze`: tempo, key and metre of songs, measured and noted in their sidecars."""

from __future__ import annotations

from collections.abc import Sequence

import click
from sidestep_core.configs import MeasureConfig
from sidestep_core.errors import Cancelled, ConfigError
from sidestep_core.events import MeasureFinished
from sidestep_core.options import options_of
from sidestep_core.plugins import Plugins

from sidestep_cli.display import follow
from sidestep_cli.measure_screen import measure_screen
from sidestep_cli.output import json_option
from sidestep_cli.parts import Group, Resolved, Slot, last, peek, without
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
# of older command lines: what the modes chose, and flags that mean something to some analysers alone
_MODES = {"faf": "signal", "mid": "stems", "sas": "stems"}
_OLDER = {"--mode": "measures in one way", "--chunks": "measures songs as a whole"}


class AnalyzeCommand(SlotCommand):
    """A command with an analyser, which also takes the flags of older command lines."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the older flags into today's, then parse."""
        return super().parse_args(ctx, _translated(args, ctx.ensure_object(Session).toolkit.plugins))


def _translated(args: Sequence[str], plugins: Plugins) -> list[str]:
    """Return arguments in which a mode has chosen the analyser; a flag without effect is left out, and that is said."""
    mode, named = last(peek(args, ("--mode",))), last(peek(args, ANALYZER.flags))
    if mode and mode not in _MODES:
        raise ConfigError(f"--mode: no {mode!r}; there is {', '.join(_MODES)}")
    name = named or _usable(_MODES.get(mode, ANALYZER.default), plugins)
    spec = plugins.find("analyzer", name)
    understood = {flag for setting in (options_of(spec.config) if spec.config else ()) for flag in setting.flags}
    rest = without(args, ANALYZER.flags)
    for flag, reason in _OLDER.items():
        if (value := last(peek(args, (flag,)))) and flag not in understood:
            rest = without(rest, (flag,))
            if _MODES.get(value) != name:
                click.echo(f"{flag} has no effect any more: analyzer {name!r} {reason}", err=True)
    return ["--analyzer", name, *rest]


def _usable(name: str, plugins: Plugins) -> str:
    """Return the name of an analyser, or the default where that one is not installed."""
    there = name in plugins.registries["analyzer"] and not plugins.find("analyzer", name).missing()
    return name if there else ANALYZER.default


@click.command(
    "audio-analyze",
    cls=AnalyzeCommand,
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
