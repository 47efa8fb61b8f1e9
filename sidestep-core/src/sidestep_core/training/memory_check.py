"""What a run says of memory: before it starts, and when there was too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sidestep_core.capabilities import capabilities, kind_of
from sidestep_core.errors import OutOfMemory
from sidestep_core.events import Event, MemoryPlanned, Notice
from sidestep_core.fitting import Fit, Machine, first_relief
from sidestep_core.plan import TrainPlan
from sidestep_core.runs import checkpoints

# how allocators say it that have no exception of their own
_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")


def about_memory(plan: TrainPlan, machine: Machine, fits: Fit) -> Iterator[Event]:
    """Yield what a run will take, and a warning if that may be too much."""
    memory = fits.memory
    yield MemoryPlanned(
        device=machine.device,
        weights=memory.weights,
        adapter=memory.adapter + memory.gradients + memory.optimizer,
        activations=memory.activations(fits.recomputed),
        overhead=memory.overhead,
        free=machine.free,
        recomputed=len(memory.recomputed(fits.recomputed)),
        layers=len(memory.layers),
    )
    if plan.waiting_layers and not capabilities(machine.device).swap:
        there = f"--block-swap frees nothing on {kind_of(machine.device)}: its memory is the main memory"
        yield Notice(message=there, warning=True)
    if fits.verdict != "fits":
        change = f"; it would fit with {fits.change.flags}" if fits.change is not None else ""
        needed = f"this run may need {_gigabytes(fits.total)} where {_gigabytes(machine.free)} are free"
        yield Notice(message=needed + change, warning=True)


@contextmanager
def naming_out_of_memory(plan: TrainPlan, machine: Machine, recomputed: int) -> Iterator[None]:
    """Turn what allocators raise into one line: what ran out, the cheapest change, and from where to go on.

    Raises:
        OutOfMemory: there was too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_about_memory(error):
            raise
        relief = first_relief(plan, machine.device, machine.precision, recomputed)
        saved = checkpoints(plan.run)
        message = f"{machine.device} ran out of memory"
        message += f"; try {relief}" if relief else "; nothing is left that would save much"
        message += f", and go on with --resume-from '{saved[-1][1]}'" if saved else ""
        raise OutOfMemory(message) from error


def is_about_memory(error: Exception) -> bool:
    """Tell whether an error is an allocator's, who found too little memory."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(phrase in str(error).lower() for phrase in _PHRASES)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
