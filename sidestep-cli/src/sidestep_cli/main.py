"""The `sidestep` command: the table of commands, and how a run of it ends."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import time
import types
import warnings
from collections.abc import Mapping, Sequence

import click

from sidestep_cli.lazy import LazyCommand, LazyGroup
from sidestep_cli.session import Session

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
PATIENCE = 10.0


def _command(name: str, help_: str) -> LazyCommand:
    return LazyCommand(f"sidestep_cli.commands.{name}:{name}", help_)


SECTIONS: Mapping[str, Mapping[str, LazyCommand]] = {
    "From songs to an adapter": {
        "dataset": _command("dataset", "List songs and captions in one file, or check them."),
        "tags": _command("tags", "Change the trigger tag of many songs at once."),
        "audio-analyze": _command("audio_analyze", "Measure tempo, key and metre of songs."),
        "captions": _command("captions", "Have songs described: captions, lyrics and metadata."),
        "convert-sidecars": LazyCommand(
            "sidestep_cli.commands.convert_sidecars:convert_sidecars", "Read other programs' captions, or write them."
        ),
        "stems": _command("stems", "Take songs apart into vocals and instruments."),
        "preprocess": _command("preprocess", "Make training tensors from songs and captions."),
        "analyze": _command("analyze", "Find out which projections matter for your songs."),
        "estimate": _command("estimate", "Work out how much memory a run takes, and whether it fits."),
        "train": _command("train", "Train an adapter on tensors."),
        "ask": _command("ask", "Ask a run that is training to save, preview or stop."),
        "preview": _command("preview", "Generate audio to hear an adapter."),
        "export": _command("export", "Write an adapter for another program."),
        "adapter": _command("adapter", "Look into adapters, add, shrink and compare them."),
        "effect": _command("effect", "Show how far an adapter moves what the model gives."),
        "convert": LazyCommand("sidestep_cli.commands.export:convert", "Write another program's adapter for a third."),
    },
    "What is there": {
        "models": _command("models", "List the models of a checkpoint folder."),
        "devices": _command("devices", "List the devices of this machine and what they can do."),
        "tensors": _command("tensors", "Look into a folder of tensors."),
        "history": _command("history", "List past runs; show, compare and delete them."),
        "plot": _command("plot", "Draw the losses and rates of runs."),
        "presets": _command("presets", "List, show, save and share presets."),
        "providers": _command("providers", "List who can describe songs, and check them."),
        "plugins": _command("plugins", "List plugins and what they offer."),
    },
    "Setting up": {
        "demo": _command("demo", "Go the whole way once, with a tiny model made here."),
        "settings": _command("settings", "Show and change your settings."),
        "keys": _command("keys", "Keep the keys of services."),
        "bench": _command("bench", "Measure how fast training is on this machine."),
    },
}


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    entry_point_group="sidestep.commands",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'sidestep COMMAND --help' explains a command. Start with 'sidestep demo'.",
    subcommand_metavar="COMMAND ...",
)
@click.option("--plain", is_flag=True, help="Print plain lines: no colours, no moving bars.")
@click.option("-y", "--yes", is_flag=True, help="Answer every question with yes.")
@click.version_option(package_name="sidestep-cli", message="sidestep %(version)s")
@click.pass_context
def cli(ctx: click.Context, plain: bool, yes: bool) -> None:
    """Teach ACE-Step 1.5 your music: from a folder of songs to an adapter."""
    session = ctx.ensure_object(Session)
    session.plain, session.yes = plain, yes
    if plain or os.environ.get("NO_COLOR"):
        ctx.color = False
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), color=ctx.color)


def run(args: Sequence[str], session: Session | None = None) -> int:
    """Run the command line and return its exit code; what a user can cause ends in `error:` lines on stderr."""
    try:
        result = cli.main(list(args), prog_name="sidestep", obj=session or Session(), standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        _complain(error.format_message())
        if error.ctx is not None:
            click.echo(f"'{error.ctx.command_path} --help' shows what it takes", err=True)
        return error.exit_code
    except click.ClickException as error:
        _complain(error.format_message())
        return 2
    except OSError as error:
        # what the file system refuses (no room, no permission, a file in the way) is for the user to clear up
        if error.errno is None:
            raise
        where = f"'{error.filename}': " if error.filename else ""
        _complain(f"{where}{os.strerror(error.errno).lower()}")
        return 2
    except Exception as error:
        # imported here: --help and --version do without the core
        from sidestep_core.errors import SidestepError

        if not isinstance(error, SidestepError):
            raise
        _complain(str(error))
        return error.exit_code
    return result if isinstance(result, int) else 0


def main() -> None:
    """Be the `sidestep` program."""
    signal.signal(signal.SIGTERM, _terminate)
    if not sys.warnoptions:
        # libraries announce changes to each other this way; who only runs a command can do nothing about them
        warnings.simplefilter("ignore", FutureWarning)
        # bitsandbytes reports a kernel that some processors lack, whether anything would use it or not
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        # that something is tried again is told by the work itself
        logging.getLogger("stamina").setLevel(logging.ERROR)
    # the others that a launcher started say nothing: what they do, the first one tells
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    sys.exit(run(sys.argv[1:]) if first else _run_silently(sys.argv[1:]))


def _run_silently(args: Sequence[str]) -> int:
    """Run the command line and print nothing, unless it fails and the first process does not.

    A launcher ends all processes with the first that fails: one that failed in silence, before the one that speaks,
    would leave no word of why. So this waits to be ended, and says it if it is not.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = run(args)
    if code not in (0, INTERRUPTED, TERMINATED):
        time.sleep(PATIENCE)
        click.echo(said.getvalue(), err=True, nl=False)
    return code


def _complain(message: str) -> None:
    for line in message.splitlines():
        click.echo(f"{click.style('error:', fg='red')} {line}", err=True)


def _terminate(number: int, frame: types.FrameType | None) -> None:
    sys.exit(TERMINATED)
