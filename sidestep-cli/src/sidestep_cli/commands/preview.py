"""`sidestep preview`: hear an adapter."""

from __future__ import annotations

from pathlib import Path

import click
from sidestep_core.configs import ModelConfig, SoundConfig

from sidestep_cli.display import follow, preview_screen
from sidestep_cli.output import json_option
from sidestep_cli.parts import Group, Resolved
from sidestep_cli.session import Session, pass_session
from sidestep_cli.slots import SlotCommand


@click.command(
    cls=SlotCommand,
    groups=(
        Group(name="sound", title="What is generated", config=SoundConfig),
        Group(name="model", title="Model", config=ModelConfig),
    ),
)
@click.option("-a", "--adapter", type=click.Path(path_type=Path), help="Folder of an adapter, such as RUN/final.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="FLAC file to write.")
@click.option("--compare", is_flag=True, help="Write the same without the adapter as well, beside it.")
@json_option
@pass_session
def preview(
    session: Session, settings: Resolved, adapter: Path | None, output: Path, compare: bool, as_json: bool
) -> None:
    """Generate audio from a prompt, with an adapter or with the model alone.

    All settings are written into a JSON file beside the audio. The same seed gives the same noise to start from, so
    that adapters and settings can be compared.

    \b
    sidestep preview --adapter my_lora/final --prompt "warm lo-fi hip hop" \\
        --output warm.flac --compare
    """
    sound, model = settings.groups["sound"], settings.groups["model"]
    work = session.toolkit.preview(sound, model, output=output, adapter=adapter, compare=compare)
    follow(work, preview_screen(as_json=as_json))
