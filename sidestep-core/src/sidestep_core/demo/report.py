"""The page a demonstration ends with: loss curve, songs to listen to, what was trained and what the proofs found."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import attrs

from sidestep_core.events import StepsDone
from sidestep_core.files import write_atomic
from sidestep_core.plan import TrainPlan

WIDTH, HEIGHT, MARGIN = 720, 260, 44

STYLE = """
:root { color-scheme: light dark; --line: #3b6fd4; --faint: #9bb4e6; --rule: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2.5rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem } h2 { margin-top: 2.2rem } svg { width: 100%; height: auto }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .8rem .3rem 0 }
tr + tr { border-top: 1px solid var(--rule) } code { background: #8882; padding: .1em .3em; border-radius: 4px }
audio { height: 2rem; width: 260px } .good { color: #2a8a4a } .bad { color: #c0392b } text { fill: currentColor }
"""


@attrs.frozen(kw_only=True)
class ExportRow:
    """One written export and what its proof found."""

    target: str
    path: Path
    modules: int
    error: float
    reader: str

    @property
    def shown_error(self) -> str:
        """The largest relative difference in words."""
        return f"error {self.error:.0e}" if self.error else "exact"


@attrs.frozen(kw_only=True)
class Report:
    """What the page shows."""

    songs: tuple[Path, ...]
    previews: tuple[Path, ...]
    steps: tuple[StepsDone, ...]
    exports: tuple[ExportRow, ...]
    plan: TrainPlan


def write_report(path: Path, report: Report, picture: str) -> Path:
    """Write the page with a picture (SVG) on top; it stands alone except for the songs beside it."""
    body = "".join(
        (
            _heading(report),
            picture,
            _loss(report.steps),
            _songs(path.parent, report.songs),
            _previews(path.parent, report.previews),
            _exports(report.exports),
        )
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sidestep demo</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>{body}</body></html>\n'
    )
    write_atomic(path, page)
    return path


def _heading(report: Report) -> str:
    plan = report.plan
    facts = [
        ("model", f"{plan.model.name} ({plan.model.parameters:,} parameters)"),
        ("adapter", f"{plan.components.adapter.spec.name} on {len(plan.targets)} projections"),
        ("trainable", f"{plan.trainable:,} parameters"),
        ("steps", f"{plan.total_steps:,}"),
    ]
    return "<h1>sidestep demo</h1><p>A tiny model, a few seconds of music, the whole way.</p>" + _table((), facts)


def _loss(steps: Sequence[StepsDone]) -> str:
    first, last = steps[0].smoothed, steps[-1].smoothed
    kind, word = ("good", "fell") if last < first else ("bad", "did not fall")
    verdict = f'<p class="{kind}">The smoothed loss {word}: {first:.3f} → {last:.3f}.</p>'
    return f"<h2>Loss</h2>{verdict}{loss_curve(steps)}"


def loss_curve(steps: Sequence[StepsDone]) -> str:
    """Return an SVG of the loss (faint) and the smoothed loss over the steps."""
    top = max(step.loss for step in steps) * 1.02
    low = min(step.loss for step in steps) * 0.98
    last = max(step.step for step in steps)

    def place(step: StepsDone, value: float) -> str:
        x = MARGIN + (WIDTH - MARGIN - 8) * step.step / last
        y = 8 + (HEIGHT - 40) * (top - value) / (top - low)
        return f"{x:.1f},{y:.1f}"

    def line(colour: str, width: float, points: Iterable[str]) -> str:
        return f'<polyline fill="none" stroke="var({colour})" stroke-width="{width}" points="{" ".join(points)}"/>'

    ticks = "".join(
        f'<line x1="{MARGIN}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--rule)"/>'
        f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" font-size="12" text-anchor="end">{value:.2f}</text>'
        for value, y in ((top - (top - low) * i / 4, 8 + (HEIGHT - 40) * i / 4) for i in range(5))
    )
    axis = (
        f'<text x="{MARGIN}" y="{HEIGHT - 8}" font-size="12">0</text>'
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 8}" font-size="12" text-anchor="end">step {last}</text>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="loss over steps">{ticks}{axis}'
        + line("--faint", 1, (place(s, s.loss) for s in steps))
        + line("--line", 2.2, (place(s, s.smoothed) for s in steps))
        + "</svg>"
    )


def _songs(folder: Path, songs: Sequence[Path]) -> str:
    return "<h2>What it was trained on</h2>" + _players(folder, [(song.name, song) for song in songs])


def _previews(folder: Path, previews: Sequence[Path]) -> str:
    """Return players of what was generated; the name of each is that of its folder, such as `step_80`."""
    if not previews:
        return ""
    named = [(preview.parent.name.replace("_", " "), preview) for preview in previews]
    said = "<p>The same noise and the first song's caption each time. Random weights make no music.</p>"
    return f"<h2>What it generated on the way</h2>{said}{_players(folder, named)}"


def _players(folder: Path, named: Iterable[tuple[str, Path]]) -> str:
    rows = [
        (html.escape(name), f'<audio controls preload="none" src="{html.escape(_link(folder, path))}"></audio>')
        for name, path in named
    ]
    return _table((), rows, escape=False)


def _link(folder: Path, song: Path) -> str:
    return quote(song.relative_to(folder).as_posix())


def _exports(exports: Sequence[ExportRow]) -> str:
    rows = [(e.target, f"{e.modules}", e.shown_error, e.reader, e.path.name) for e in exports]
    head = ("target", "modules read back", "compared with what was trained", "read by", "written")
    return "<h2>Exports, each read back and compared</h2>" + _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, escape: bool = True) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        shown = (html.escape(cell) if escape else cell for cell in cells)
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in shown) + "</tr>"

    return "<table>" + (row(head, "th") if head else "") + "".join(row(r, "td") for r in rows) + "</table>"
