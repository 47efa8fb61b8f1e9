"""`sidestep analyze`: which projections matter for a set of songs, and what ranks they get."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.result import Analysis, map_file, map_text, write_map
from sidestep_core.configs import ModelConfig
from sidestep_core.errors import Cancelled, ConfigError
from sidestep_core.events import AnalysisFinished, RankMapSaved
from sidestep_core.plotting.draw import check_picture

from sidestep_cli.analysis_screen import analysis_screen
from sidestep_cli.display import follow
from sidestep_cli.output import json_option, plain_path
from sidestep_cli.parts import Group, Resolved
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import stop_on_signals
from sidestep_cli.slots import SlotCommand

PROMISE = "no rank map is written"


@click.command(
    cls=SlotCommand,
    groups=(
        Group(name="analyze", title="Analysis", config=AnalyzeConfig),
        Group(name="model", title="Model", config=ModelConfig),
    ),
)
@click.option("--plot", is_flag=True, help="Draw scores and ranks beside the rank map, as PNG and SVG.")
@json_option
@pass_session
def analyze(session: Session, settings: Resolved, plot: bool, as_json: bool) -> int:
    """Find out which projections matter for your songs, and give each its own rank.

    The gradient of training's loss is measured at every projection of the frozen model. The result is
    fisher_map.json beside the tensors; 'sidestep train' finds it by itself, whatever the adapter type.

    \b
    sidestep analyze --dataset-dir my_tensors
    sidestep train --dataset-dir my_tensors --output-dir my_lora --lr 5e-5

    On a terminal it asks before another rank map is replaced; 'sidestep --yes analyze' does not.
    """
    config: AnalyzeConfig = settings.groups["analyze"]
    if not config.dataset_dir:
        raise ConfigError("no tensors to analyze: give --dataset-dir, a folder made by 'sidestep preprocess'")
    path = map_file(config)
    if plot:
        check_picture(path.with_suffix(".png"))
    screen = analysis_screen(session, as_json=as_json)
    with stop_on_signals(PROMISE) as stop:
        try:
            last = follow(session.toolkit.analyze(config, settings.groups["model"], cancelled=stop), screen)
        except Cancelled:
            return stop.exit_code(Cancelled.exit_code)
        if stop():  # with the last song at hand: what was promised still holds
            return stop.exit_code()
    assert isinstance(last, AnalysisFinished)
    if not _may_write(session, path, map_text(last.analysis)):
        click.echo(f"'{plain_path(path)}' is left as it was", err=True)
        return 0
    screen.show(_save(last.analysis, path, plot))
    if config.output is None:
        folders = " ".join(plain_path(folder) for folder in config.dataset_dir)
        click.echo(f"next: sidestep train --dataset-dir {folders} --output-dir my_adapter --lr 5e-5", err=True)
    return 0


def _may_write(session: Session, path: Path, text: str) -> bool:
    """Ask whether another rank map may be replaced, where there is one and somebody to ask."""
    if session.yes or not sys.stdin.isatty() or not path.is_file() or path.read_bytes() == text.encode():
        return True
    return click.confirm(f"replace the rank map '{plain_path(path)}'?", default=True, err=True)


def _save(analysis: Analysis, path: Path, plot: bool) -> RankMapSaved:
    write_map(analysis, path)
    if not plot:
        return RankMapSaved(path=path)
    from sidestep_core.analysis.plot import write_pictures

    return RankMapSaved(path=path, pictures=write_pictures(analysis, path))
