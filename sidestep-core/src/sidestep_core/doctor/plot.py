"""The lengths of a set's songs as a picture; matplotlib is imported with this module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sidestep_core.doctor.report import histogram
from sidestep_core.files import write_atomic
from sidestep_core.plotting.figure import COLOURS, SETTINGS, picture


def draw_lengths(seconds: Sequence[float], path: Path) -> None:
    """Draw a histogram of lengths into a PNG or SVG file; see `check_picture` for what else is refused.

    Args:
        seconds: length of each song.
        path: file to write; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, picture(make_histogram(seconds), path.suffix.lower()[1:]))


def make_histogram(seconds: Sequence[float]) -> Figure:
    """Return a figure with a bar for each span of lengths."""
    spans = histogram(seconds)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.add_subplot()
        labels = [label.replace(" ", "\n", 1) for label, _ in spans]  # in one line nine of them would overlap
        bars = axes.bar(labels, [count for _, count in spans], color=COLOURS[0])
        axes.bar_label(bars)
        axes.set(xlabel="minutes:seconds", ylabel="songs", title=f"Lengths of {len(seconds):,} songs")
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
