"""Draw docs/images/min-snr.svg: the weights of --loss-weighting min_snr, as the code computes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from sidestep_core.builtins.configs import ContinuousConfig
from sidestep_core.builtins.timesteps import Continuous
from sidestep_core.specs import BuildContext
from sidestep_core.training.weighting import MinSnr

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "min-snr.svg"
WIDTH, HEIGHT, LEFT, TOP = 560, 260, 48, 20
TOP_WEIGHT = 3.0
GAMMAS = {1.0: "#d08a2e", 5.0: "#3b82c4", 20.0: "#5a9e5a"}
GREY = "#808080"


def picture() -> str:
    """Return the drawing."""
    sampler = Continuous(ContinuousConfig(), BuildContext())
    t = torch.linspace(0, 1, 201)
    parts = [*_axes(), _area(_density(sampler))]
    for index, (gamma, colour) in enumerate(GAMMAS.items()):
        points = zip(t.tolist(), MinSnr(gamma, sampler)(t).tolist(), strict=True)
        parts.append(f'<polyline points="{_points(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(LEFT + WIDTH - 90, TOP + 14 + 18 * index, f"gamma {gamma:g}", colour))
    parts.append(_text(LEFT + WIDTH - 90, TOP + 14 + 18 * len(GAMMAS), "draws", GREY))
    size = f'viewBox="0 0 {WIDTH + LEFT + 20} {HEIGHT + TOP + 44}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">\n{body}\n</svg>\n'


def _density(sampler: Continuous) -> list[tuple[float, float]]:
    """Return the density of the draws, in steps of 0.02."""
    draws = sampler.sample(2**18, generator=torch.Generator().manual_seed(0))
    counts = torch.histc(draws, bins=50, min=0, max=1) * 50 / len(draws)
    return [((index + 0.5) / 50, density) for index, density in enumerate(counts.tolist())]


def _axes() -> Iterator[str]:
    for t in (0, 0.25, 0.5, 0.75, 1):
        x, _ = _place(t, 0)
        yield _text(x - 8, TOP + HEIGHT + 18, f"{t:g}", GREY)
    for weight in (0, 1, 2):
        x, y = _place(0, weight)
        yield f'<path d="M{x:g} {y:g}h{WIDTH}" stroke="{GREY}" stroke-opacity="{0.3 if weight else 1}"/>'
        yield _text(x - 20, y + 4, f"{weight:g}", GREY)
    yield _text(LEFT, TOP + HEIGHT + 36, "t: 0 is the music, 1 is pure noise", GREY)
    yield _text(LEFT + 4, TOP + 6, "weight", GREY)


def _area(curve: list[tuple[float, float]]) -> str:
    points = _points([(0, 0), *curve, (1, 0)])
    return f'<polygon points="{points}" fill="{GREY}" fill-opacity="0.2"/>'


def _points(curve: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in curve))


def _place(t: float, weight: float) -> tuple[float, float]:
    return LEFT + WIDTH * t, TOP + HEIGHT * (1 - weight / TOP_WEIGHT)


def _text(x: float, y: float, text: str, colour: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}">{text}</text>'


if __name__ == "__main__":
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
