"""Pictures of an analysis: scores and ranks of all projections, layer by layer."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidestep_core.analysis.result import Analysis, Module, layers_and_kinds
from sidestep_core.errors import LoadError
from sidestep_core.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

COLOURS = "viridis"
LEFT_OUT = "#d9d9d9"
DARK = 0.45  # of the colours: on those below it, white figures are read more easily


def check_plotting() -> None:
    """Raise `LoadError` if pictures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LoadError("--plot needs matplotlib: pip install 'sidestep-core[plot]'")


def write_pictures(analysis: Analysis, path: Path) -> tuple[Path, ...]:
    """Draw an analysis beside its rank map, as PNG and SVG; the same analysis gives the same files."""
    from matplotlib import rc_context

    formats: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": "sidestep"}}
    # without a salt, the names inside an SVG would be drawn anew each time
    with rc_context({"svg.hashsalt": "sidestep"}):
        figure = draw(analysis)
        for kind, metadata in formats.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
            write_atomic(path.with_suffix(f".{kind}"), content.getvalue())
    return tuple(path.with_suffix(f".{kind}") for kind in formats)


def draw(analysis: Analysis) -> Figure:
    """Return a figure with two fields, scores and ranks: a column for each layer, a row for each kind of projection."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    layers, kinds = layers_and_kinds(module.name for module in analysis.modules)
    figure = Figure(figsize=(3.4 + 0.38 * len(layers), 1.8 + 0.52 * len(kinds)), layout="constrained")
    above, below = figure.subplots(2, 1)
    scores = [module.score for module in analysis.modules if module.score > 0]
    songs = "1 song pulls" if analysis.songs == 1 else f"{analysis.songs:,} songs pull"
    _field(above, analysis, lambda module: module.score, LogNorm(min(scores), max(scores) * 1.0001))
    _name(above, f"Where {songs} at {analysis.model}", "mean squared gradient")

    colours = Normalize(0, max(module.rank for module in analysis.modules))
    _field(below, analysis, lambda module: module.rank, colours)
    _name(below, f"Ranks of {len(analysis.ranked)} of {len(analysis.modules)} projections; grey ones get none", "rank")
    for module in analysis.ranked:
        _, layer, kind = module.name.split(".", 2)
        ink = "white" if colours(module.rank) < DARK else "black"
        place = layers.index(layer), kinds.index(kind)
        below.text(*place, str(module.rank), ha="center", va="center", fontsize=7, color=ink)
    return figure


def _field(axes: Axes, analysis: Analysis, value: Callable[[Module], float], colours: Normalize) -> None:
    """Draw a value of every projection as a colour; where it is 0, nothing is drawn."""
    layers, kinds = layers_and_kinds(module.name for module in analysis.modules)
    values = [[float("nan")] * len(layers) for _ in kinds]
    for module in analysis.modules:
        _, layer, kind = module.name.split(".", 2)
        values[kinds.index(kind)][layers.index(layer)] = value(module) or float("nan")
    axes.imshow(values, cmap=COLOURS, norm=colours, aspect="auto")
    axes.set_facecolor(LEFT_OUT)
    axes.set_xticks(range(len(layers)), layers, fontsize=8)
    axes.set_yticks(range(len(kinds)), [kind.replace("_proj", "").replace(".", " ") for kind in kinds], fontsize=8)
    axes.set_xlabel("layer", fontsize=8)
    axes.tick_params(length=0)


def _name(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    bar = axes.figure.colorbar(axes.images[0], ax=axes, pad=0.01)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=8)
