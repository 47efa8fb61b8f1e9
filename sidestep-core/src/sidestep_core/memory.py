"""How much memory a run takes, in closed form."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from sidestep_core.memory_parts import (
    FLOAT,
    Workload,
    checkpointed,
    constants,
    head,
    kept_by_layer,
    outside,
    weights,
    working,
)
from sidestep_core.model.dims import spread

# runtime, kernels and what the allocator cannot use
OVERHEAD = 500 * 2**20
# the estimate is good to about a tenth: what needs more than this share of the free memory may not fit
SAFE = 0.9


@attrs.frozen(kw_only=True)
class MemoryEstimate:
    """Bytes that a run takes on its device.

    Attributes:
        weights: the frozen decoder and its constants, without what waits in main memory.
        adapter: trained weights and, if one is kept, their average.
        gradients: of the trained weights.
        optimizer: its state.
        layers: what each decoder layer keeps for the backward pass, in the model's order.
        checkpoint: what a layer keeps instead when it is recomputed.
        outside: what is kept outside the layers.
        head: what is kept between them and the loss, which goes first in the backward pass.
        working: what is there only while a layer is computed.
        waiting: layers whose weights wait; they are recomputed too.
        accumulates: whether gradients of earlier batches are there from the start of a pass.
        overhead: fixed.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    layers: tuple[int, ...]
    checkpoint: int
    outside: int
    head: int
    working: int
    waiting: frozenset[int] = frozenset()
    accumulates: bool = True
    overhead: int = OVERHEAD

    @property
    def state(self) -> int:
        """What is there all the time."""
        return self.weights + self.adapter + self.optimizer + self.overhead

    def activations(self, recomputed: int = 0) -> int:
        """Return what a pass adds to state and gradients at its peak, with a number of layers recomputed."""
        return self.total(recomputed) - self.state - self.gradients

    def total(self, recomputed: int = 0) -> int:
        """Return the peak with a number of layers recomputed in the backward pass."""
        return self.state + max(self._course(self.recomputed(recomputed)))

    def recomputed(self, count: int) -> frozenset[int]:
        """Return the layers that are computed again when a number of them is chosen: those and all that wait."""
        return spread(count, len(self.layers)) | self.waiting

    def layers_to_checkpoint(self, budget: int) -> int:
        """Return the smallest number of recomputed layers that fits into a budget; all of them if none does."""
        counts = range(len(self.layers) + 1)
        return next((count for count in counts if self.total(count) <= budget), len(self.layers))

    def _course(self, recomputed: frozenset[int]) -> Iterator[int]:
        """Yield what a pass adds to the state: after the forward pass, then at each layer of the backward pass."""
        held = [min(kept, self.checkpoint) if i in recomputed else kept for i, kept in enumerate(self.layers)]
        made = 0 if self.accumulates else self.gradients // max(1, sum(map(bool, self.layers)))
        now = self.outside + sum(held) + (self.gradients if self.accumulates else 0)
        yield now + self.head + self.working
        for kept, before in zip(reversed(self.layers), reversed(held), strict=True):
            # a recomputed layer's tensors are there again
            yield now + kept - before + self.working
            now += (made if kept else 0) - before
        yield self.gradients


def estimate_memory(work: Workload) -> MemoryEstimate:
    """Work out what a run takes."""
    parameters = work.trainable * FLOAT
    return MemoryEstimate(
        weights=weights(work) + constants(work),
        adapter=parameters * (2 if work.average else 1),
        gradients=parameters,
        optimizer=round(work.trainable * work.optimizer_bytes),
        layers=tuple(kept_by_layer(work)),
        checkpoint=checkpointed(work),
        outside=outside(work),
        head=head(work),
        working=working(work),
        waiting=work.waiting,
        accumulates=work.accumulation > 1,
    )
