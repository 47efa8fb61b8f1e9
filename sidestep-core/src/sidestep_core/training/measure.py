"""The peak memory of real steps: counted by the device's allocator, or tensor by tensor where it does not count."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sidestep_core.capabilities import kind_of
from sidestep_core.device import DTYPES, make_accelerator
from sidestep_core.errors import OutOfMemory
from sidestep_core.fitting import Machine
from sidestep_core.model.block_swap import frozen
from sidestep_core.plan import TrainPlan
from sidestep_core.training.batches import Batch
from sidestep_core.training.memory_check import naming_out_of_memory
from sidestep_core.training.order import BatchPlan, Crop
from sidestep_core.training.setup import make_decoder, make_trainer
from sidestep_core.training.step import Trainer, backward, update

STEPS = 2
_COUNTING = {"cuda": torch.cuda, "xpu": torch.xpu}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is active, for as long as each is there.

    What is missed is what an operation takes and gives back inside itself.

    Attributes:
        peak: the most that was there at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._there: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.count(leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
        return made

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Take in tensors, each piece of memory once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            name, size = storage._cdata, storage.nbytes()
            if name not in self._there:
                self._there.add(name)
                self._now += size
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._forget, name, size)

    def _forget(self, name: int, size: int) -> None:
        self._there.discard(name)
        self._now -= size


def measure_apart(plan: TrainPlan, machine: Machine, recomputed: int) -> int:
    """Return what `measure` does, in a process of its own: nothing else is in its memory, and it gives all of it back.

    Raises:
        OutOfMemory: there was too little memory.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, plan, machine, recomputed).result()
        except BrokenProcessPool as error:
            raise OutOfMemory("the system ended the measurement, most likely because memory ran out") from error


def measure(plan: TrainPlan, machine: Machine, recomputed: int) -> int:
    """Return the peak bytes of two steps on noise as long as the run's longest sample. Nothing is written.

    Raises:
        OutOfMemory: there was too little memory.
    """
    torch.manual_seed(0)
    with naming_out_of_memory(plan, machine, recomputed):
        accelerator, dtype = make_accelerator(machine.device, machine.precision), DTYPES[machine.precision]
        decoder = make_decoder(plan, accelerator.device, machine.precision, recomputed=recomputed)
        layers = decoder.transformer.layers
        waiting = {id(tensor) for index in plan.waiting_layers for _, tensor in frozen(layers[index])}
        there = [t for t in (*decoder.parameters(), *decoder.buffers()) if id(t) not in waiting]
        with _peak(machine.device, there) as peak:
            trainer, _ = make_trainer(plan, decoder, accelerator, dtype)
            for step in range(STEPS):
                _step(plan, trainer, step)
    return peak[0]


def _step(plan: TrainPlan, trainer: Trainer, number: int) -> None:
    train = plan.request.train
    # gradients of the first batch are there while the second is computed; more batches add nothing
    batches = min(train.accumulation, 2)
    frames, rows = plan.longest
    crop = Crop(song=0, start=0, length=frames, draw=0, weight=1.0, dropped=False)
    losses = []
    for micro in range(batches):
        made_of = BatchPlan(
            step=number,
            micro=micro,
            crops=(crop,) * train.batch_size,
            step_frames=frames * train.batch_size * batches,
        )
        latents = torch.randn(train.batch_size, frames, plan.model.dims.latent_channels)
        conditioning = torch.randn(train.batch_size, rows, plan.model.dims.condition_size)
        losses.append(backward(trainer, Batch(made_of, latents, conditioning)))
    update(trainer, number, losses)


@contextmanager
def _peak(device: str, there: Iterable[Tensor]) -> Iterator[list[int]]:
    """Give a list that holds the peak at the end; `there` is what is in memory already."""
    found: list[int] = []
    library = _COUNTING.get(kind_of(device))
    if library is not None:
        library.reset_peak_memory_stats(device)
        yield found
        found.append(library.max_memory_allocated(device))
        return
    with LiveBytes() as counter:
        counter.count(there)
        yield found
    found.append(counter.peak)
