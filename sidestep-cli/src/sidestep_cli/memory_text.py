"""Memory estimates as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator

from sidestep_core.memory import MemoryEstimate


def memory_parts(memory: MemoryEstimate, recomputed: int, base: str) -> Iterator[tuple[str, int, str]]:
    """Yield name, bytes and meaning of each part of an estimate with a number of layers recomputed."""
    waiting, layers = len(memory.waiting), len(memory.layers)
    frozen = "frozen" if base == "none" else f"frozen, projections in {base}"
    yield "model", memory.weights, frozen + (f", {waiting} of {layers} layers wait in main memory" if waiting else "")
    yield "adapter", memory.adapter, "trained weights in float32"
    yield "gradients", memory.gradients, "of those weights"
    yield "optimizer", memory.optimizer, "its state"
    yield "activations", memory.activations(recomputed), "what the backward pass needs"
    yield "overhead", memory.overhead, "kernels, runtime and what is lost between blocks"


def recomputed_layers(memory: MemoryEstimate, recomputed: int) -> str:
    """Return how many layers are recomputed, as `6 of 24`."""
    return f"{len(memory.recomputed(recomputed))} of {len(memory.layers)}"


def memory_dict(memory: MemoryEstimate, recomputed: int) -> dict[str, int]:
    """Return the parts, their sum and how many layers are recomputed, in bytes, for JSON."""
    parts = {name: count for name, count, _ in memory_parts(memory, recomputed, "none")}
    return {**parts, "total": memory.total(recomputed), "recomputed_layers": len(memory.recomputed(recomputed))}
