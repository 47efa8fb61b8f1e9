"""`sidestep demo`: the whole way once, with a tiny model made here."""

from __future__ import annotations

from pathlib import Path

import click
from sidestep_core.errors import Cancelled
from sidestep_core.events import DemoFinished

from sidestep_cli.demo_screen import DemoScreen
from sidestep_cli.display import JsonLines, follow
from sidestep_cli.output import json_option, plain_path, print_facts
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import stop_on_signals


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="sidestep-demo",
    show_default=True,
    help="Folder for everything that is made.",
)
@click.option("--audio-dir", type=click.Path(path_type=Path), help="Your own songs instead of generated ones.")
@json_option
@pass_session
def demo(session: Session, output: Path, audio_dir: Path | None, as_json: bool) -> int:
    """Go the whole way once: songs, tensors, training, export, proof, report.

    It makes a tiny model with random weights, so nothing is downloaded, no GPU is needed and it takes about a minute
    on a laptop. What comes out sounds like nothing; every step is the one that a real model goes through.
    """
    with stop_on_signals("what is made so far is kept") as stop:
        events = session.toolkit.demo(output, audio_dir=audio_dir, cancelled=stop)
        try:
            last = follow(events, JsonLines() if as_json else DemoScreen(session))
        except Cancelled as stopped:
            click.echo(str(stopped), err=True)
            return stop.exit_code(Cancelled.exit_code)
    if isinstance(last, DemoFinished) and not as_json:
        _print(last)
    return stop.exit_code()


def _print(done: DemoFinished) -> None:
    click.echo()
    print_facts(
        [
            ("loss", f"fell from {done.first_loss:.4f} to {done.last_loss:.4f}"),
            ("adapter", plain_path(done.adapter)),
            *((f"for {target}", plain_path(path)) for target, path in done.exports),
            ("report", plain_path(done.report)),
        ]
    )
    click.echo(
        "\nnow with your own songs and a real model in ./checkpoints:\n\n"
        "  sidestep preprocess --audio-dir my_songs --tensor-output my_tensors\n"
        "  sidestep train --dataset-dir my_tensors --output-dir my_lora\n"
    )
