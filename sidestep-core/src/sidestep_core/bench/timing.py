"""Taking times in turn, so that whatever else the machine does falls on everything alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Step = Callable[[], None]
MATMUL = "matmul"
# side of the squares that are multiplied: large enough that nothing but the product counts
SIDES = {"cpu": 1536}
SIDE = 8192
Shape = tuple[int, ...]


class Clock:
    """Tells how long work takes on a device: processor seconds on the CPU, which others' work does not change.

    Elsewhere these are seconds of the wall, with the device idle at both ends.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.name = "processor" if device.type == "cpu" else "wall"

    def take(self, step: Step) -> float:
        """Return how long a step takes."""
        begin = self.now()
        step()
        return self.now() - begin

    def now(self) -> float:
        """Return the time."""
        if self._device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize(self._device)
        return time.perf_counter()


def in_turn(steps: Mapping[str, Step], clock: Clock, rounds: int) -> dict[str, list[float]]:
    """Return how long each step took in each round; a first round warms up and does not count."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            taken[name].append(clock.take(step))
    return {name: times[1:] for name, times in taken.items()}


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """Return the median over the rounds of each round's own ratio."""
    return statistics.median(a / b for a, b in zip(own, other, strict=True))


def count_flops(step: Step) -> int:
    """Return the floating-point operations of a step's products, attention included, as it is computed."""
    aten = torch.ops.aten
    # the one kernel of attention that torch's counter does not know
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        step()
    return int(counter.get_total_flops())


def matmul(device: torch.device, dtype: torch.dtype) -> tuple[Step, int]:
    """Return a large matrix product and its floating-point operations."""
    side = SIDES.get(device.type, SIDE)
    a = torch.randn(side, side, device=device, dtype=dtype)
    out = torch.empty_like(a)

    def step() -> None:
        torch.mm(a, a, out=out)

    return step, 2 * side**3


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))
