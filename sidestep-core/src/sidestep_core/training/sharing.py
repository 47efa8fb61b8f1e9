"""Steps shared by processes: each computes some of a step's batches, and all know what all of them gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, tee

import torch

from sidestep_core.plan import TrainPlan
from sidestep_core.processes import Team
from sidestep_core.training.batches import Batch, load_batches
from sidestep_core.training.order import BatchPlan
from sidestep_core.training.setup import Setup
from sidestep_core.training.step import BatchLoss, Trainer, backward, elsewhere, update


def steps(plan: TrainPlan, setup: Setup, team: Team, first: int) -> Iterator[tuple[list[BatchPlan], Iterator[Batch]]]:
    """Yield the batches of each step as they are planned, and where those that this process computes come from."""
    plans, ahead = tee(setup.order.plans(first, plan.total_steps))
    batches = load_batches(
        setup.batches,
        (own for step in _by_step(ahead) for own in _own(step, team)),
        plan.request.data,
        workers=not setup.in_memory,
        pin=setup.trainer.accelerator.device.type == "cuda",
    )
    for step in _by_step(plans):
        yield step, batches


def gradients(trainer: Trainer, team: Team, plans: Sequence[BatchPlan], batches: Iterator[Batch]) -> list[BatchLoss]:
    """Compute the gradients of a step and add up those of all processes.

    The loss of a batch is a part of the whole step's, so the sum over processes is what one alone would have.

    Args:
        trainer: has the gradients afterwards.
        team: the processes that share the step.
        plans: all of the step's batches.
        batches: gives those of this process, in their order.

    Raises:
        OtherProcessFailed, SidestepError: another process failed.
        Over: the main process ended the run instead.
    """
    mine = {plan.micro for plan in _own(plans, team)}
    losses = [backward(trainer, next(batches)) if p.micro in mine else elsewhere(trainer, p) for p in plans]
    team.meet()
    if team.count > 1:
        for parameter in trainer.parameters:
            if parameter.grad is None:  # none of the step's batches was this process's
                parameter.grad = torch.zeros_like(parameter)
        team.sum([*(p.grad for p in trainer.parameters if p.grad is not None), *(part.errors for part in losses)])
    return losses


def assist(plan: TrainPlan, setup: Setup, team: Team, first: int) -> None:
    """Take part in every step until the main process, which does all else, ends the run."""
    for plans, batches in steps(plan, setup, team, first):
        update(setup.trainer, plans[0].step, gradients(setup.trainer, team, plans, batches))


def uneven(plan: TrainPlan, team: Team) -> Iterator[str]:
    """Yield what to know when the batches of a step cannot be divided evenly."""
    given = plan.request.train.accumulation
    if given % team.count:
        better = math.ceil(given / team.count) * team.count
        yield (
            f"{team.count} processes share the {given} batches of a step, so some wait for others; "
            f"--gradient-accumulation {better} gives all of them as many"
        )


def owners(plans: Sequence[BatchPlan], count: int) -> list[int]:
    """Return which process computes each batch: the longest first, each by the one that has the least to do."""
    load, found = [0] * count, [0] * len(plans)
    for index in sorted(range(len(plans)), key=lambda i: -_frames(plans[i])):
        found[index] = load.index(min(load))
        load[found[index]] += _frames(plans[index])
    return found


def _frames(plan: BatchPlan) -> int:
    """Return the frames of a batch, padding included."""
    return len(plan.crops) * max(crop.length for crop in plan.crops)


def _own(plans: Sequence[BatchPlan], team: Team) -> list[BatchPlan]:
    return [plan for plan, rank in zip(plans, owners(plans, team.count), strict=True) if rank == team.rank]


def _by_step(plans: Iterable[BatchPlan]) -> Iterator[list[BatchPlan]]:
    return (list(group) for _, group in groupby(plans, key=lambda plan: plan.step))
