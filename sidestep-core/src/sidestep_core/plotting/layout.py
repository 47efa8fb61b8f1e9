"""Where panels are on a figure, in inches: the last digits that matplotlib's own solver finds differ each time."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 10.0
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.85, 0.35, 0.5
# between panels below each other, above the row, and between the panels of the row
GAP, AXIS, BESIDE = 0.36, 0.85, 0.85
LABEL = 0.55
BAR, BAR_GAP = 0.13, 0.1


def lay_out(heights: Sequence[float], row: int, row_height: float) -> tuple[Figure, list[Axes], list[Axes]]:
    """Return a figure with panels below each other that share their horizontal axis, and a row of panels below those.

    Args:
        heights: of the panels, in inches.
        row: panels in the row; 0 for none.
        row_height: their height.
    """
    column_height = sum(heights) + GAP * (len(heights) - 1)
    total = TOP + column_height + BOTTOM + (AXIS + row_height if row else 0)
    figure = Figure(figsize=(WIDTH, total))
    column: list[Axes] = []
    top = total - TOP
    for height in heights:
        place = (LEFT / WIDTH, (top - height) / total, (WIDTH - LEFT - RIGHT) / WIDTH, height / total)
        column.append(figure.add_axes(place, sharex=column[0] if column else None))
        top -= height + GAP
    for axes in column:
        axes.tick_params(labelbottom=axes is column[-1])
        # where they are set, labels of all panels are in one line
        axes.yaxis.set_label_coords(-LABEL / (WIDTH - LEFT - RIGHT), 0.5)
    return figure, column, [_in_row(figure, place, row, row_height / total) for place in range(row)]


def add_bar(axes: Axes) -> Axes:
    """Return the place for a scale of colours at the right of a panel."""
    box = axes.get_position()
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure.add_axes((box.x1 + BAR_GAP / WIDTH, box.y0, BAR / WIDTH, box.height))


def _in_row(figure: Figure, place: int, count: int, height: float) -> Axes:
    width = (WIDTH - LEFT - RIGHT - BESIDE * (count - 1)) / count
    left = LEFT + place * (width + BESIDE)
    axes = figure.add_axes((left / WIDTH, BOTTOM / figure.get_figheight(), width / WIDTH, height))
    axes.yaxis.set_label_coords(-LABEL / width, 0.5)
    return axes
