"""Whether a run fits into a device's memory, and the cheapest change that would make it fit. No torch."""

from __future__ import annotations

from typing import Literal

import attrs

from sidestep_core.capabilities import Resolved
from sidestep_core.knobs import Knob, Setting, knobs
from sidestep_core.memory import OVERHEAD, SAFE, MemoryEstimate, estimate_memory
from sidestep_core.plan import TrainPlan, workload

Verdict = Literal["fits", "tight", "does not fit"]


@attrs.frozen(kw_only=True)
class Machine:
    """What a run may use: a device, the precision there, and the bytes that are free on it."""

    device: str
    precision: Resolved
    free: int


@attrs.frozen(kw_only=True)
class Change:
    """Flags that would make a run fit, and what it would take then."""

    flags: str
    total: int


@attrs.frozen(kw_only=True)
class Fit:
    """How a run fits.

    Attributes:
        memory: what it takes, part by part.
        recomputed: layers that are computed again in the backward pass.
        total: its peak.
        verdict: "tight" is what fits only if the estimate is not too low.
        change: what would make it fit; None if it does, or if nothing would.
    """

    memory: MemoryEstimate
    recomputed: int
    total: int
    verdict: Verdict
    change: Change | None = None


def fit(plan: TrainPlan, machine: Machine) -> Fit:
    """Return how a run fits into a machine."""
    work = workload(plan, machine.device, machine.precision)
    memory = estimate_memory(work)
    chosen = plan.checkpointed_layers
    # as few as the memory forces, where the settings do not say
    recomputed = memory.layers_to_checkpoint(int(SAFE * machine.free)) if chosen is None else chosen
    total = memory.total(recomputed)
    found = verdict(total, machine.free)
    change = None
    if found != "fits":
        change = _cheapest(Setting(work, recomputed), knobs(plan, machine.device, machine.precision), machine.free)
    return Fit(memory=memory, recomputed=recomputed, total=total, verdict=found, change=change)


def verdict(total: int, free: int) -> Verdict:
    """Return whether a peak fits into what is free."""
    return "fits" if total <= SAFE * free else "tight" if total <= free else "does not fit"


def first_relief(plan: TrainPlan, device: str, precision: str, recomputed: int) -> str:
    """Return the flags of the cheapest change that saves a tenth, for a run that found too little memory; or ""."""
    now = Setting(workload(plan, device, precision), recomputed)
    enough = OVERHEAD + SAFE * (now.total - OVERHEAD)
    for knob in knobs(plan, device, precision):
        turned = knob.turn(now)
        if turned is not None and turned.total <= enough:
            return knob.flags
    return ""


def _cheapest(setting: Setting, there: tuple[Knob, ...], free: int) -> Change | None:
    """Return the first change that is enough; where none is, as many of them together as are needed."""
    for knob in there:
        turned = knob.turn(setting)
        if turned is not None and verdict(turned.total, free) == "fits":
            return Change(flags=knob.flags, total=turned.total)
    flags: dict[str, str] = {}
    for knob in there:
        turned = knob.turn(setting)
        if turned is None or turned.total >= setting.total:
            continue
        setting = turned
        flags[knob.flags.split()[0]] = knob.flags  # a second value takes the place of the first
        if verdict(setting.total, free) == "fits":
            return Change(flags=" ".join(flags.values()), total=setting.total)
    return None
