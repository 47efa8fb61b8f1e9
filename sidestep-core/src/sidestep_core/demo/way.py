"""A picture of the way from songs to a proven adapter, drawn from the data of a real run."""

from __future__ import annotations

import html
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float32]

PANEL, GAP, TOP, HEIGHT = 190, 34, 34, 112
CAPTION, FACT = 22, 16
STYLE = """
text { font-family: system-ui, sans-serif; fill: #57606a } .name { font-size: 15px; font-weight: 600; fill: #24292f }
.fact { font-size: 12px } .frame { fill: #f6f8fa; stroke: #d0d7de } .arrow { stroke: #8c959f; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #9198a1 } .name { fill: #f0f6fc }
.frame { fill: #161b22; stroke: #30363d } }
"""


@attrs.frozen(kw_only=True)
class Panel:
    """One station of the way: its name, what is drawn in it, and facts under it."""

    name: str
    drawing: str
    facts: tuple[str, ...]


def way_picture(panels: Sequence[Panel]) -> str:
    """Return an SVG of the panels in a row, joined by arrows."""
    width = len(panels) * PANEL + (len(panels) - 1) * GAP + 2
    height = TOP + HEIGHT + CAPTION + FACT * max(len(panel.facts) for panel in panels)
    parts = [_panel(panel, i * (PANEL + GAP) + 1) for i, panel in enumerate(panels)]
    arrows = [_arrow(i * (PANEL + GAP) + 1 - GAP) for i in range(1, len(panels))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="from songs to a proven adapter"><style>{STYLE}</style>{"".join(parts + arrows)}</svg>\n'
    )


def waveforms(peaks: Sequence[Grid]) -> str:
    """Draw songs one under the other from their peaks [n] in 0 to 1."""
    lane = HEIGHT / len(peaks)
    lines = []
    for row, song in enumerate(peaks):
        step = (PANEL - 16) / max(len(peak) for peak in peaks)
        middle = TOP + lane * (row + 0.5)
        marks = (
            f"M{8 + i * step:.1f} {middle - lane * 0.42 * p:.1f}v{lane * 0.84 * p:.1f}" for i, p in enumerate(song)
        )
        lines.append(f'<path d="{"".join(marks)}" stroke="hsl({212 + 14 * row} 62% 52%)" stroke-width="1.6"/>')
    return "".join(lines)


def heat(values: Grid) -> str:
    """Draw a matrix [rows, columns] of values in 0 to 1 as a field of colours."""
    rows, columns = values.shape
    w, h = (PANEL - 16) / columns, (HEIGHT - 16) / rows
    return "".join(
        f'<rect x="{8 + c * w:.1f}" y="{TOP + 8 + r * h:.1f}" width="{w + 0.3:.1f}" height="{h + 0.3:.1f}" '
        f'fill="hsl({260 - 210 * float(values[r, c]):.0f} 65% {30 + 35 * float(values[r, c]):.0f}%)"/>'
        for r in range(rows)
        for c in range(columns)
    )


def curve(values: Sequence[float], smooth: Sequence[float]) -> str:
    """Draw a loss curve: each value faintly, the smoothed ones on top."""
    top, low = max(values), min(values)
    top = top if top > low else low + 1

    def points(line: Sequence[float]) -> str:
        span = max(len(line) - 1, 1)
        return " ".join(
            f"{8 + (PANEL - 16) * i / span:.1f},{TOP + 8 + (HEIGHT - 16) * (top - v) / (top - low):.1f}"
            for i, v in enumerate(line)
        )

    return (
        f'<polyline points="{points(values)}" fill="none" stroke="#54aeff" stroke-opacity=".45"/>'
        f'<polyline points="{points(smooth)}" fill="none" stroke="#0969da" stroke-width="2.4"/>'
    )


def bars(values: Sequence[float]) -> str:
    """Draw one bar for each value, in proportion to the largest."""
    step, top = (PANEL - 16) / len(values), max(values) or 1.0
    return "".join(
        f'<rect x="{8 + i * step:.1f}" y="{TOP + 8 + (HEIGHT - 16) * (1 - v / top):.1f}" width="{step * 0.72:.1f}" '
        f'height="{(HEIGHT - 16) * v / top:.1f}" fill="hsl({150 + 40 * (i % 7) / 6:.0f} 55% 42%)"/>'
        for i, v in enumerate(values)
    )


def checks(lines: Sequence[str]) -> str:
    """Draw lines with a check mark in front, for what was proven."""
    return "".join(
        f'<text x="14" y="{TOP + 34 + 30 * i}" class="fact"><tspan fill="#1a7f37" font-size="16">✓</tspan> '
        f"{html.escape(line)}</text>"
        for i, line in enumerate(lines)
    )


def _panel(panel: Panel, x: float) -> str:
    facts = "".join(
        f'<text class="fact" x="0" y="{TOP + HEIGHT + CAPTION + FACT * i}">{html.escape(fact)}</text>'
        for i, fact in enumerate(panel.facts)
    )
    return (
        f'<g transform="translate({x} 0)"><text class="name" x="0" y="20">{html.escape(panel.name)}</text>'
        f'<rect class="frame" y="{TOP}" width="{PANEL}" height="{HEIGHT}" rx="6"/>{panel.drawing}{facts}</g>'
    )


def _arrow(x: float) -> str:
    y = TOP + HEIGHT / 2
    return f'<path class="arrow" d="M{x + 6} {y}h{GAP - 14}m-6 -5l6 5l-6 5" stroke-width="1.8"/>'
