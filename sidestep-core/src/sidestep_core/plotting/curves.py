"""What there is to draw of a run: columns of its progress lines, thinned to what a picture can show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.progress import Line, is_number, number, of_kind, read_progress
from sidestep_core.runs import progress_file

POINTS = 1500
# of the map: no more than can be seen, and no more than have enough samples to mean something
COLUMNS, SAMPLES_A_CELL = 80, 2
SMOOTHING = 0.98
SCALE = "target_loss_scale"
NAN = float("nan")

Series = tuple[tuple[float, ...], tuple[float, ...]]
EMPTY: Series = ((), ())


@attrs.frozen(kw_only=True)
class BandMap:
    """Losses by timestep over the steps.

    Attributes:
        edges: steps that bound the columns, one more than there are.
        losses: for each column, the mean loss in each band of t; NaN where no sample fell.
    """

    edges: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]


@attrs.frozen(kw_only=True)
class Curves:
    """A run in numbers; each series is its steps and its values.

    Attributes:
        name: of the run.
        loss: mean loss of each report.
        smoothed: exponential mean of the loss.
        validation: loss of the held-out songs.
        rate: learning rate.
        scale: what cruise control makes of the rate.
        bands: losses by timestep over the run, None where they were not reported.
        profile: loss in each band over the last quarter of the reports; () without.
        samples: how many samples fell into each band; () without.
    """

    name: str
    loss: Series = EMPTY
    smoothed: Series = EMPTY
    validation: Series = EMPTY
    rate: Series = EMPTY
    scale: Series = EMPTY
    bands: BandMap | None = None
    profile: tuple[float, ...] = ()
    samples: tuple[int, ...] = ()


def read_curves(folder: Path, name: str) -> Curves:
    """Return what there is to draw of the run in a folder, ours or Side-Step's."""
    lines = read_progress(progress_file(folder))
    steps = of_kind(lines, "step")
    banded = _with_bands(steps)
    return Curves(
        name=name,
        loss=thin(_series(steps, "loss")),
        smoothed=thin(_series(steps, "smoothed") if any("smoothed" in line for line in steps) else _smooth(steps)),
        validation=thin(_series(of_kind(lines, "validation"), "loss")),
        rate=thin(_series(steps, "lr")),
        scale=thin(_series(steps, SCALE)),
        bands=_band_map(banded) if banded else None,
        profile=_mean_bands(banded[-math.ceil(len(banded) / 4) :]) if banded else (),
        samples=tuple(map(sum, zip(*(line["samples"] for line in banded), strict=True))),
    )


def thin(series: Series, points: int = POINTS) -> Series:
    """Return a series of at most so many points, each the mean of its share."""
    steps, values = series
    if len(steps) <= points:
        return series
    shares = list(_shares(len(steps), points))
    return tuple(_mean(steps[share]) for share in shares), tuple(_mean(values[share]) for share in shares)


def _series(lines: Iterable[Line], key: str) -> Series:
    pairs = [(float(line["step"]), value) for line in lines if (value := number(line, key)) is not None]
    return (tuple(step for step, _ in pairs), tuple(value for _, value in pairs))


def _smooth(lines: Sequence[Line]) -> Series:
    """Return the exponential mean of the loss as a run itself makes it, where its lines do not have it."""
    steps, values = _series(lines, "loss")
    smoothed, total, weight, before = [], 0.0, 0.0, 0.0
    for step, value in zip(steps, values, strict=True):
        kept = SMOOTHING ** max(1.0, step - before)
        total, weight, before = kept * total + (1 - kept) * value, kept * weight + (1 - kept), step
        smoothed.append(total / weight)
    return steps, tuple(smoothed)


def _with_bands(lines: Iterable[Line]) -> list[Line]:
    """Return the lines that have losses by timestep, in as many bands as the last of them."""
    found = [line for line in lines if _are_bands(line.get("bands"), line.get("samples"))]
    return [line for line in found if len(line["bands"]) == len(found[-1]["bands"])]


def _are_bands(losses: Any, samples: Any) -> bool:
    return (
        isinstance(losses, list)
        and isinstance(samples, list)
        and len(losses) == len(samples) > 0
        and all(loss is None or is_number(loss) for loss in losses)
        and all(map(is_number, samples))
    )


def _band_map(lines: Sequence[Line]) -> BandMap:
    samples = sum(sum(line["samples"]) for line in lines)
    columns = max(1, int(samples) // (SAMPLES_A_CELL * len(lines[0]["bands"])))
    shares = list(_shares(len(lines), min(columns, COLUMNS)))
    edges = (0.0, *(float(lines[share.stop - 1]["step"]) for share in shares))
    return BandMap(edges=edges, losses=tuple(_mean_bands(lines[share]) for share in shares))


def _mean_bands(lines: Sequence[Line]) -> tuple[float, ...]:
    """Return the mean loss of each band, every sample with the same weight."""
    columns = zip(*(zip(line["bands"], line["samples"], strict=True) for line in lines), strict=True)
    return tuple(_weighted(column) for column in columns)


def _weighted(column: Iterable[tuple[Any, Any]]) -> float:
    pairs = [(loss, samples) for loss, samples in column if loss is not None and samples]
    count = sum(samples for _, samples in pairs)
    return sum(loss * samples for loss, samples in pairs) / count if count else NAN


def _shares(length: int, parts: int) -> Iterator[slice]:
    """Yield slices that share a length out among at most so many parts."""
    parts = min(length, parts)
    for part in range(parts):
        yield slice(length * part // parts, length * (part + 1) // parts)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
