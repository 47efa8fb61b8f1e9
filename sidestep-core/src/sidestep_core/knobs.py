"""Ways to save memory, ordered by what they cost: time first, then precision, then what is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs

from sidestep_core.capabilities import capabilities
from sidestep_core.memory import estimate_memory
from sidestep_core.memory_parts import Workload
from sidestep_core.model.dims import spread
from sidestep_core.options import options_of
from sidestep_core.plan import FRAMES_PER_SECOND, TrainPlan, adapted, config_of, count_parameters

CROPS = (60, 30)  # seconds
SMALLEST_RANK = 8
RECOMPUTE = "--gradient-checkpointing-ratio 1"
# two bytes and two float32 scales for each 256
EIGHT_BIT = 2 + 8 / 256


@attrs.frozen
class Setting:
    """What a run's memory depends on, and how many layers are recomputed."""

    work: Workload
    recomputed: int

    @property
    def total(self) -> int:
        """The run's peak in bytes."""
        return estimate_memory(self.work).total(self.recomputed)


@attrs.frozen
class Knob:
    """Flags that save memory, and what they make of a run; None where they change nothing."""

    flags: str
    turn: Callable[[Setting], Setting | None]


def knobs(plan: TrainPlan, device: str, precision: str) -> tuple[Knob, ...]:
    """Return what there is on a device for a run, the cheapest first."""
    return tuple(_knobs(plan, device, precision))


def _knobs(plan: TrainPlan, device: str, precision: str) -> Iterator[Knob]:
    can, train, layers = capabilities(device), plan.request.train, plan.model.dims.num_layers
    forbidden = plan.request.memory.gradient_checkpointing is False
    yield Knob(f"--gradient-checkpointing {RECOMPUTE}" if forbidden else RECOMPUTE, _recompute)
    for seconds in CROPS:
        yield Knob(f"--chunk-duration {seconds}", partial(_crop, seconds * FRAMES_PER_SECOND))
    if can.eight_bit:
        yield Knob("--optimizer-type adamw8bit", _eight_bit)
    if train.batch_size > 1:
        step = train.batch_size * train.accumulation
        yield Knob(f"--batch-size 1 --gradient-accumulation {step}", partial(_one_sample, step))
    for kind in can.quantized:
        yield Knob(f"--quantize-base {kind}", partial(_quantize, kind))
    for count in sorted({layers // 4, layers // 2, layers}) if can.swap else ():
        yield Knob(f"--block-swap {count}", partial(_wait, count))
    yield from _lower_ranks(plan, precision)


def _lower_ranks(plan: TrainPlan, precision: str) -> Iterator[Knob]:
    """Yield a knob for each half of the rank, down to the smallest that is of use."""
    chosen = plan.components.adapter
    config: Any = config_of(chosen)
    flag = next((o.flag for o in options_of(type(config)) if o.name == "rank"), "") if config is not None else ""
    rank = config.rank // 2 if flag else 0
    while rank >= SMALLEST_RANK:
        lower = attrs.evolve(chosen, config=attrs.evolve(config, rank=rank))
        components = attrs.evolve(plan.components, adapter=lower)
        smaller = attrs.evolve(plan, components=components, trainable=count_parameters(components, plan.targets))
        yield Knob(f"{flag} {rank}", partial(_adapt, smaller, precision))
        rank //= 2


def _recompute(now: Setting) -> Setting | None:
    layers = now.work.dims.num_layers
    return attrs.evolve(now, recomputed=layers) if now.recomputed < layers else None


def _crop(frames: int, now: Setting) -> Setting | None:
    return _evolved(now, frames=frames) if frames < now.work.frames else None


def _eight_bit(now: Setting) -> Setting | None:
    return _evolved(now, optimizer_bytes=EIGHT_BIT) if now.work.optimizer_bytes > EIGHT_BIT else None


def _one_sample(accumulation: int, now: Setting) -> Setting:
    return _evolved(now, batch=1, accumulation=accumulation)


def _quantize(kind: str, now: Setting) -> Setting:
    return _evolved(now, quantize=kind)


def _wait(count: int, now: Setting) -> Setting | None:
    more = count > len(now.work.waiting)
    return _evolved(now, waiting=spread(count, now.work.dims.num_layers)) if more else None


def _adapt(plan: TrainPlan, precision: str, now: Setting) -> Setting:
    found = adapted(plan.components.adapter, plan.targets, precision)
    return _evolved(now, adapted=found, trainable=plan.trainable or 0)


def _evolved(now: Setting, **changes: Any) -> Setting:
    return attrs.evolve(now, work=attrs.evolve(now.work, **changes))
