"""How much memory a run would take: of its own tensors, or of samples of assumed lengths where there are none yet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from sidestep_core.capabilities import capabilities, check_memory, check_precision
from sidestep_core.configs import RunConfig
from sidestep_core.fitting import Fit, Machine, fit
from sidestep_core.model.layout import ModelFolder, identity
from sidestep_core.plan import FRAMES_PER_SECOND, TrainPlan, make_plan
from sidestep_core.requests import Components, TrainRequest
from sidestep_core.store.index import StoredSong, TensorStore

SECONDS = (60.0, 240.0)
# rows of conditioning: a caption and the lyrics of a song have some 80 to 300
ROWS = 300


@attrs.frozen(kw_only=True)
class LengthEstimate:
    """What a run takes at one length of its longest sample.

    Attributes:
        seconds: that length.
        frames: the same in latent frames.
        rows: rows of conditioning.
        fit: what it takes and whether it fits.
        measured: peak bytes of two real steps, None if they were not taken. The fixed overhead is no part of it.
    """

    seconds: float
    frames: int
    rows: int
    fit: Fit
    measured: int | None = None


@attrs.frozen(kw_only=True)
class Estimation:
    """What a run takes on a machine.

    Attributes:
        machine: device, precision and free memory.
        plan: the run, as far as it is known; it has no folder.
        assumed: whether the lengths are made up, because no tensors are given.
        lengths: one estimate for each.
    """

    machine: Machine
    plan: TrainPlan
    assumed: bool
    lengths: tuple[LengthEstimate, ...]


def estimate(
    request: TrainRequest,
    components: Components,
    model: ModelFolder,
    stores: Sequence[TensorStore],
    *,
    seconds: Sequence[float] = (),
    free: int | None = None,
    measured: bool = False,
) -> Estimation:
    """Work out how much memory a run takes and whether that is there.

    Args:
        request: the run; it needs no folder.
        components: found for it.
        model: found for it.
        stores: its tensors; lengths are assumed where there are none.
        seconds: lengths to assume instead.
        free: bytes that a device has, instead of what is free on this machine's; "auto" then is a CUDA device.
        measured: take two real steps at the longest length, in a process of its own.

    Raises:
        ConfigError: the device is not there, or cannot do what is asked of it.
        OutOfMemory: the real steps found too little memory.
    """
    request = attrs.evolve(request, run=RunConfig(output_dir=_nowhere(), run_name="estimate"))
    machine = find_machine(request, free)
    plans = [make_plan(request, components, model, made) for made in _stores(model, stores, seconds)]
    plans = list({plan.longest: plan for plan in plans}.values())
    lengths = [_length(plan, machine) for plan in plans]
    if measured:
        from sidestep_core.training.measure import measure_apart

        peak = measure_apart(plans[-1], machine, lengths[-1].fit.recomputed)
        lengths[-1] = attrs.evolve(lengths[-1], measured=peak)
    assumed = bool(seconds) or not stores
    return Estimation(machine=machine, plan=plans[-1], assumed=assumed, lengths=tuple(lengths))


def find_machine(request: TrainRequest, free: int | None = None) -> Machine:
    """Return what a run may use here, or on a device with a given amount of memory.

    Raises:
        ConfigError: the device is not there, or cannot do what is asked of it.
    """
    config = request.model
    if free is None:
        from sidestep_core.device import free_memory, resolve_device, resolve_precision

        device = resolve_device(config.device)
        precision = resolve_precision(config.precision, device)
        free = free_memory(device)
    else:
        device = "cuda" if config.device == "auto" else config.device
        precision = capabilities(device).precisions[0] if config.precision == "auto" else config.precision
        check_precision(precision, device)
    check_memory(request.memory, device)
    return Machine(device=device, precision=precision, free=free)


def _length(plan: TrainPlan, machine: Machine) -> LengthEstimate:
    frames, rows = plan.longest
    return LengthEstimate(seconds=frames / FRAMES_PER_SECOND, frames=frames, rows=rows, fit=fit(plan, machine))


def _stores(
    model: ModelFolder, stores: Sequence[TensorStore], seconds: Sequence[float]
) -> Iterator[Sequence[TensorStore]]:
    if stores and not seconds:
        yield stores
    for length in sorted(seconds) or (() if stores else SECONDS):
        yield [_made_up(model, length)]


def _made_up(model: ModelFolder, seconds: float) -> TensorStore:
    """Return a folder of two songs that is nowhere; two, so that one can be held out."""
    songs = [
        StoredSong(
            name=f"{name}.wav",
            frames=round(seconds * FRAMES_PER_SECOND),
            rows=ROWS,
            seconds=seconds,
        )
        for name in ("one", "two")
    ]
    return TensorStore(
        path=_nowhere(),
        model=identity(model),
        variant=model.variant,
        conditioning="inference",
        latent="sample",
        dtype="fp32",
        songs=tuple(songs),
    )


def _nowhere() -> Path:
    """Return a path at which there is nothing."""
    return Path(tempfile.gettempdir()) / f"sidestep-estimate-{os.getpid()}"
