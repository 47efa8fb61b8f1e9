"""`sidestep preprocess`: training tensors from songs and captions."""

from __future__ import annotations

import click
from sidestep_core.configs import ModelConfig, PreprocessConfig
from sidestep_core.errors import Cancelled, ConfigError
from sidestep_core.events import PreprocessFinished

from sidestep_cli.display import follow, preprocess_screen
from sidestep_cli.output import json_option
from sidestep_cli.parts import Group, Resolved
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import Stop, stop_on_signals
from sidestep_cli.slots import SlotCommand

PROMISE = "the songs at hand are finished and kept; run the same command to go on"


@click.command(
    cls=SlotCommand,
    groups=(
        Group(name="preprocess", title="Songs and tensors", config=PreprocessConfig),
        Group(name="model", title="Model", config=ModelConfig),
    ),
)
@json_option
@pass_session
def preprocess(session: Session, settings: Resolved, as_json: bool) -> int:
    """Make training tensors from songs and captions.

    Songs are decoded, encoded by the VAE and put beside what the text encoder makes of their captions and lyrics. A
    song without a sidecar is described by its file name. What is finished stays: a second run does only what is new
    or changed.

    \b
    sidestep preprocess --audio-dir my_songs --tensor-output my_tensors

    Exit code 1: some songs could not be used; 2: none could.
    """
    config = settings.groups["preprocess"]
    with stop_on_signals(PROMISE) as stop:
        code = make_tensors(session, config, settings.groups["model"], stop, as_json=as_json)
    if code < 2:
        click.echo(f"next: sidestep train --dataset-dir {config.tensor_output} --output-dir my_adapter", err=True)
    return code


def make_tensors(session: Session, config: PreprocessConfig, model: ModelConfig, stop: Stop, *, as_json: bool) -> int:
    """Run preprocessing on the screen and return the exit code: 0, 1 when songs were left out, 2 when all were.

    Raises:
        ConfigError: no songs or no output are named.
    """
    if config.audio_dir is None and config.dataset_json is None:
        raise ConfigError("no songs: give --audio-dir, a folder, or --dataset-json, a file that lists them")
    if config.tensor_output is None:
        raise ConfigError("no place for the tensors: give --tensor-output")
    events = session.toolkit.preprocess(config, model, cancelled=stop)
    try:
        last = follow(events, preprocess_screen(session, as_json=as_json))
    except Cancelled:
        return stop.exit_code(Cancelled.exit_code)
    return stop.exit_code(_exit_code(last) if isinstance(last, PreprocessFinished) else 0)


def _exit_code(done: PreprocessFinished) -> int:
    if not done.rejected:
        return 0
    return 1 if done.written + done.kept else 2
