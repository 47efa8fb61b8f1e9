"""How runs are drawn, with matplotlib and nothing global of it: panels below each other, in the order of their use."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sidestep_core.plotting.curves import BandMap, Curves, Series
from sidestep_core.plotting.layout import add_bar, lay_out

# Okabe and Ito: told apart with every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MAP = "cividis"
TALL, LOW, SQUARE = 3.2, 1.3, 1.7
GREY, EMPTY = "#555555", "#f0f0f0"
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "sidestep",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 130,
}

Draw = Callable[[Axes, Sequence[Curves]], None]


def make_figure(curves: Sequence[Curves], *, only_losses: bool = False) -> Figure:
    """Return a figure with a panel for everything that any of the runs reported."""
    with mpl.rc_context(SETTINGS):
        over_steps, over_time = _panels(curves, only_losses)
        figure, column, row = lay_out([height for height, _ in over_steps], len(over_time), SQUARE)
        for axes, draw in zip([*column, *row], [*(draw for _, draw in over_steps), *over_time], strict=True):
            draw(axes, curves)
        column[-1].set_xlabel("step")
        column[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def picture(figure: Figure, kind: str) -> bytes:
    """Return the figure as the bytes of a PNG or SVG file, without the time it was made."""
    out = io.BytesIO()
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        # names in scripts that the font has not are boxes; that needs no lines on the screen
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _panels(curves: Sequence[Curves], only_losses: bool) -> tuple[list[tuple[float, Draw]], list[Draw]]:
    """Return the panels over the steps, with their heights, and those over the timestep."""
    over_steps: list[tuple[float, Draw]] = [(TALL, _draw_losses)]
    if only_losses:
        return over_steps, []
    if any(run.rate[0] for run in curves):
        over_steps.append((LOW, _draw_rates))
    if any(run.scale[0] for run in curves):
        over_steps.append((LOW, _draw_scales))
    over_steps += [(LOW, _map_of(index)) for index, run in enumerate(curves) if run.bands is not None]
    return over_steps, [_draw_profiles, _draw_samples] if any(run.samples for run in curves) else []


def _draw_losses(axes: Axes, curves: Sequence[Curves]) -> None:
    for run, line in zip(curves, _lines(curves), strict=True):
        axes.plot(*run.loss, color=line["color"], alpha=0.35, linewidth=0.8)
        axes.plot(*run.smoothed, linewidth=1.8, **line)
        if run.validation[0]:
            axes.plot(
                *run.validation, color=line["color"], marker="o", markersize=4, linewidth=0.9, mec="white", mew=0.6
            )
    axes.set_ylim(*_limits(curves))
    axes.set_ylabel("loss")
    _title(axes, curves[0].name if len(curves) == 1 else "Loss")
    _add_legend(axes, curves)


def _draw_rates(axes: Axes, curves: Sequence[Curves]) -> None:
    _draw_lines(axes, curves, [run.rate for run in curves])
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)


def _draw_scales(axes: Axes, curves: Sequence[Curves]) -> None:
    _draw_lines(axes, curves, [run.scale for run in curves])
    axes.set_ylabel("cruise scale")
    axes.set_ylim(0, 1.05)


def _map_of(index: int) -> Draw:
    """Return what draws the losses by timestep of one run."""

    def draw(axes: Axes, curves: Sequence[Curves]) -> None:
        found = curves[index].bands
        if found is not None:
            _draw_map(axes, found, _range(curves))
            of_run = f", {curves[index].name}" if len(curves) > 1 else ""
            _title(axes, f"Loss by timestep{of_run} (t = 1 is pure noise)")

    return draw


def _draw_map(axes: Axes, found: BandMap, limits: tuple[float, float]) -> None:
    losses = np.array(found.losses).T  # [bands, columns]
    heights = np.linspace(0, 1, len(losses) + 1)
    mesh = axes.pcolormesh(found.edges, heights, losses, cmap=MAP, vmin=limits[0], vmax=limits[1], rasterized=True)
    axes.set_facecolor(EMPTY)
    axes.set_ylabel("timestep t")
    axes.grid(visible=False)
    bar = axes.figure.colorbar(mesh, cax=add_bar(axes))
    bar.set_label("loss")
    bar.outline.set_visible(False)


def _range(curves: Sequence[Curves]) -> tuple[float, float]:
    """Return the losses that have the ends of the colours, the same for all runs; single values lie beyond them."""
    losses = np.concatenate([np.ravel(run.bands.losses) for run in curves if run.bands is not None])
    low, high = np.nanpercentile(losses, (2, 98)) if np.isfinite(losses).any() else (0.0, 1.0)
    return low, max(high, low + 1e-9)


def _draw_profiles(axes: Axes, curves: Sequence[Curves]) -> None:
    for run, line in zip(curves, _lines(curves), strict=True):
        if run.profile:
            axes.plot(_middles(len(run.profile)), run.profile, marker="o", markersize=3.5, **line)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.1 * np.nanmax([loss for run in curves for loss in run.profile]))
    axes.set_xlabel("timestep t")
    axes.set_ylabel("loss")
    _title(axes, "Loss by timestep, last quarter of the run")


def _draw_samples(axes: Axes, curves: Sequence[Curves]) -> None:
    for run, line in zip(curves, _lines(curves), strict=True):
        if total := sum(run.samples):
            shares = np.array(run.samples) / total
            axes.stairs(shares, np.linspace(0, 1, len(shares) + 1), fill=len(curves) == 1, linewidth=1.6, **line)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("timestep t")
    axes.set_ylabel("share of samples")
    _title(axes, "Timesteps that were drawn")


def _draw_lines(axes: Axes, curves: Sequence[Curves], series: Sequence[Series]) -> None:
    for index, (values, line) in enumerate(zip(series, _lines(curves), strict=True)):
        if values[0]:
            # runs often have the same rate: each line is seen at the sides of the one above it
            axes.plot(*values, linewidth=1.4 + 0.9 * (len(curves) - 1 - index), **line)


def _lines(curves: Sequence[Curves]) -> list[dict[str, Any]]:
    """Return colour and style of each run; styles change when the colours are used up."""
    return [
        {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index // len(COLOURS) % len(STYLES)]}
        for index in range(len(curves))
    ]


def _add_legend(axes: Axes, curves: Sequence[Curves]) -> None:
    kinds = [
        (Line2D([], [], color=GREY, alpha=0.45, linewidth=0.8), "loss"),
        (Line2D([], [], color=GREY, linewidth=1.8), "smoothed"),
    ]
    if any(run.validation[0] for run in curves):
        kinds.append((Line2D([], [], color=GREY, marker="o", markersize=4, linewidth=0.9), "held-out songs"))
    runs = [(Line2D([], [], linewidth=2.5, **line), run.name) for run, line in zip(curves, _lines(curves), strict=True)]
    entries = [*(runs if len(curves) > 1 else ()), *kinds]
    # matplotlib leaves out labels that begin with an underscore
    labels = [f" {name}" if name.startswith("_") else name for _, name in entries]
    legend = axes.legend([handle for handle, _ in entries], labels, loc="upper right", fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, color=GREY).set_parse_math(False)


def _limits(curves: Sequence[Curves]) -> tuple[float, float]:
    """Return bounds in which all but a few single values lie: one of them must not flatten all the others."""
    single = np.concatenate([run.loss[1] for run in curves])
    low, high = np.percentile(single, (1, 99))
    steady = np.concatenate([(*run.smoothed[1], *run.validation[1]) for run in curves])
    low, high = min(low, steady.min()), max(high, steady.max())
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return max(0.0, low - room), high + room


def _middles(count: int) -> Any:
    return (np.arange(count) + 0.5) / count
