"""Pictures of an analysis: scores and ranks of all projections, layer by layer. Heavy: it draws with matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from sidestep_core.analysis.result import Analysis, Module, layers_and_kinds
from sidestep_core.files import write_atomic
from sidestep_core.plotting.figure import picture

KINDS = ("png", "svg")
COLOURS = "viridis"
LEFT_OUT = "#d9d9d9"
DARK = 0.45  # of the colours: on those below it, white figures are read more easily
# in inches; laid out by hand: the last digits that matplotlib's own solver finds differ each time
LEFT, RIGHT, TOP, BOTTOM, GAP = 1.0, 0.95, 0.4, 0.5, 0.85
CELL, NARROWEST, ROW = 0.4, 5.2, 0.26
BAR, BAR_GAP = 0.13, 0.1


def write_pictures(analysis: Analysis, path: Path) -> tuple[Path, ...]:
    """Draw an analysis beside its rank map, as PNG and SVG; the same analysis gives the same files."""
    figure = draw(analysis)
    for kind in KINDS:
        write_atomic(path.with_suffix(f".{kind}"), picture(figure, kind))
    return tuple(path.with_suffix(f".{kind}") for kind in KINDS)


def draw(analysis: Analysis) -> Figure:
    """Return a figure with two fields, scores and ranks: a column for each layer, a row for each kind of projection."""
    layers, kinds = layers_and_kinds(module.name for module in analysis.modules)
    width, height = max(CELL * len(layers), NARROWEST), ROW * len(kinds)
    figure = Figure(figsize=(LEFT + width + RIGHT, TOP + 2 * height + GAP + BOTTOM), dpi=150)
    above, below = (_field(figure, width, height, bottom) for bottom in (BOTTOM + height + GAP, BOTTOM))

    scores = [module.score for module in analysis.modules if module.score > 0]
    colours: Normalize = LogNorm(min(scores), max(scores) * 1.0001)
    _fill(*above, analysis, lambda module: module.score, colours)
    songs = "1 song pulls" if analysis.songs == 1 else f"{analysis.songs:,} songs pull"
    above[0].set_title(f"Where {songs} at {analysis.model}", loc="left", fontsize=10, fontweight="bold")
    above[1].set_ylabel("mean squared gradient", fontsize=8)

    colours = Normalize(0, max(module.rank for module in analysis.modules))
    _fill(*below, analysis, lambda module: module.rank, colours)
    title = f"Ranks of {len(analysis.ranked)} of {len(analysis.modules)} projections; grey ones get none"
    below[0].set_title(title, loc="left", fontsize=10, fontweight="bold")
    below[1].set_ylabel("rank", fontsize=8)
    for module in analysis.ranked:
        _, layer, kind = module.name.split(".", 2)
        ink = "white" if colours(module.rank) < DARK else "black"
        place = layers.index(layer), kinds.index(kind)
        below[0].text(*place, str(module.rank), ha="center", va="center", fontsize=7, color=ink)
    return figure


def _field(figure: Figure, width: float, height: float, bottom: float) -> tuple[Axes, Axes]:
    """Return the places for a field and for the scale of its colours, from measures in inches."""
    across, up = figure.get_size_inches()
    field = figure.add_axes((LEFT / across, bottom / up, width / across, height / up))
    scale = figure.add_axes(((LEFT + width + BAR_GAP) / across, bottom / up, BAR / across, height / up))
    return field, scale


def _fill(axes: Axes, scale: Axes, analysis: Analysis, value: Callable[[Module], float], colours: Normalize) -> None:
    """Draw a value of every projection as a colour; where it is 0, nothing is drawn."""
    layers, kinds = layers_and_kinds(module.name for module in analysis.modules)
    values = [[float("nan")] * len(layers) for _ in kinds]
    for module in analysis.modules:
        _, layer, kind = module.name.split(".", 2)
        values[kinds.index(kind)][layers.index(layer)] = value(module) or float("nan")
    image = axes.imshow(values, cmap=COLOURS, norm=colours, aspect="auto")
    axes.set_facecolor(LEFT_OUT)
    axes.set_xticks(range(len(layers)), layers, fontsize=8)
    axes.set_yticks(range(len(kinds)), [kind.replace("_proj", "").replace(".", " ") for kind in kinds], fontsize=8)
    axes.set_xlabel("layer", fontsize=8)
    axes.tick_params(length=0)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, cax=scale)
    scale.tick_params(labelsize=8)
