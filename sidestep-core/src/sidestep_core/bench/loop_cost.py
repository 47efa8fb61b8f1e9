"""What a real run adds to a step: data, seeds, the finite check, clipping, events, the progress file."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sidestep_core.bench.settings import LoopFigure
from sidestep_core.bench.timing import Clock, Step, in_turn, ratio
from sidestep_core.configs import DataConfig, ModelConfig, RunConfig, TrainConfig
from sidestep_core.events import Event, StepsDone
from sidestep_core.history import forget
from sidestep_core.plan import FRAMES_PER_SECOND
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.store.noise import write_noise

if TYPE_CHECKING:
    from sidestep_core.toolkit import Toolkit

# steps of a round, which are those between two reports
STEPS = 5


def measure_loop(
    toolkit: Toolkit,
    model: ModelConfig,
    adapter: Choice,
    bare: Step,
    clock: Clock,
    *,
    folder: Path,
    frames: int,
    rows: int,
    rounds: int,
) -> LoopFigure:
    """Train for some rounds, with as many bare steps after each.

    Args:
        toolkit: plans and trains.
        model: what is trained on.
        adapter: with settings that the bare step has too.
        bare: a step that is forward, backward and optimizer alone.
        clock: takes the times.
        folder: an empty folder for tensors and the run.
        frames: latent frames of the sample.
        rows: rows of its conditioning.
        rounds: rounds that count.
    """
    store = write_noise(folder / "tensors", toolkit.model(model), frames=[frames], rows=[rows])
    count = STEPS * (rounds + 2)
    request = TrainRequest(
        model=model,
        # one song, visited as often as there are steps: no epoch ends in between
        data=DataConfig(dataset_dir=(store.path,), dataset_repeats=(count,)),
        train=TrainConfig(epochs=1, accumulation=1, conditioning_dropout=0.0),
        run=RunConfig(output_dir=folder / "run", log_every=STEPS),
        adapter=adapter,
        optimizer=Choice(name="adamw"),
    )
    events = toolkit.train(toolkit.plan(request))
    taken = in_turn({"run": lambda: _to_report(events), "bare": lambda: _repeat(bare)}, clock, rounds)
    events.close()  # type: ignore[attr-defined]
    forget(folder / "run")
    return LoopFigure(
        seconds=frames / FRAMES_PER_SECOND,
        bare=statistics.median(taken["bare"]) / STEPS,
        overhead=ratio(taken["run"], taken["bare"]) - 1,
    )


def _to_report(events: Iterator[Event]) -> None:
    next(event for event in events if isinstance(event, StepsDone))


def _repeat(step: Step) -> None:
    for _ in range(STEPS):
        step()
