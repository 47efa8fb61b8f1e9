"""Drawing runs into a picture file; matplotlib is imported when it is done."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from sidestep_core.errors import ConfigError, LoadError
from sidestep_core.files import write_atomic
from sidestep_core.plotting.curves import EMPTY, read_curves
from sidestep_core.runs import Run

FORMATS = (".png", ".svg")


def draw_runs(runs: Sequence[Run], names: Sequence[str], path: Path, *, only_losses: bool = False) -> None:
    """Draw runs over each other; the same runs give the same bytes.

    Args:
        runs: what is drawn.
        names: what each is called in the picture.
        path: PNG or SVG file to write.
        only_losses: leave out rates and timesteps.

    Raises:
        ConfigError: the file is of another kind, or a run has reported nothing yet.
        LoadError: matplotlib is not installed.
    """
    check_picture(path)
    curves = [read_curves(run.path, name) for run, name in zip(runs, names, strict=True)]
    if bare := [run for run, found in zip(runs, curves, strict=True) if found.loss == EMPTY]:
        raise ConfigError(f"run '{bare[0].path}' has reported no loss that could be drawn")

    from sidestep_core.plotting.figure import make_figure, picture

    write_atomic(path, picture(make_figure(curves, only_losses=only_losses), path.suffix.lower()[1:]))


def check_picture(path: Path) -> None:
    """Raise `ConfigError` if a path is no picture's, `LoadError` if matplotlib is not installed."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"'{path}' is neither .png nor .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise LoadError("pictures need matplotlib: pip install 'sidestep-core[plot]'")
