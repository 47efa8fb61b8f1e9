"""`sidestep dataset check`: what is wrong with a set of songs, before it costs a night."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import attrs
import click
from sidestep_core.configs import CheckConfig
from sidestep_core.doctor.report import DatasetChecked
from sidestep_core.errors import Cancelled, ConfigError
from sidestep_core.plotting.draw import check_picture

from sidestep_cli.check_text import print_checked, print_prompts, to_json
from sidestep_cli.display import Screen, SilentScreen, follow, preprocess_screen
from sidestep_cli.output import json_option, plain_path, print_json
from sidestep_cli.parts import Group, Resolved
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import stop_on_signals
from sidestep_cli.slots import SlotCommand


@click.command(cls=SlotCommand, groups=(Group(name="check", title="Songs and their words", config=CheckConfig),))
@click.argument("songs", required=False, type=click.Path(path_type=Path))
@click.option("--prompts", is_flag=True, help="Print what the model is told of each song, word for word.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the songs' lengths into this picture file.")
@json_option
@pass_session
def check(
    session: Session, settings: Resolved, songs: Path | None, prompts: bool, plot: Path | None, as_json: bool
) -> int:
    """Look for what is wrong with SONGS, a folder or a dataset file.

    Finds files that cannot be read, silence, clipping, songs that are there twice (also when they were encoded anew or
    made louder), missing captions, lyrics and prompts that are too long for the model, and lyrics that are not in the
    language they are said to be in. Nothing is changed. Describe the songs with the options that you give to
    'sidestep preprocess', and what it would make of them is what is looked at.

    \b
    sidestep dataset check my_songs

    Exit code 1: preprocessing would drop a song or a part of what is said about it.
    """
    config = _with_songs(settings.groups["check"], songs)
    if plot is not None:
        check_picture(plot)  # before minutes of listening
    screen: Screen = SilentScreen() if as_json else preprocess_screen(session, as_json=False)
    with stop_on_signals("the songs at hand are heard to their ends; nothing is written") as stop:
        try:
            report = follow(session.toolkit.check(config, cancelled=stop), screen)
        except Cancelled:
            return stop.exit_code(Cancelled.exit_code)
    assert isinstance(report, DatasetChecked)
    if as_json:
        print_json(to_json(report))
    else:
        if prompts:
            print_prompts(report)
        print_checked(report)
    if plot is not None:
        from sidestep_core.doctor.plot import draw_lengths

        draw_lengths([song.seconds for song in report.songs], plot)
        click.echo(f"lengths drawn in {plain_path(plot)}", err=True)
    return 1 if report.dropped else 0


def _with_songs(config: CheckConfig, songs: Path | None) -> CheckConfig:
    if songs is None:
        return config
    if config.audio_dir is not None or config.dataset_json is not None:
        raise ConfigError("songs are named twice: give SONGS, --audio-dir or --dataset-json")
    named = {"audio_dir": songs} if songs.is_dir() else {"dataset_json": songs}
    return cast(CheckConfig, attrs.evolve(cast(Any, config), **named))
