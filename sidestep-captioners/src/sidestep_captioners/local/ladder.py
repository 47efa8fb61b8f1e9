"""What is tried when memory runs out: less sound first, then a shorter answer, then no cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import attrs
from sidestep_core.errors import ProviderError
from sidestep_core.training.memory_check import is_about_memory

from sidestep_captioners.local.listener import Effort
from sidestep_captioners.local.loading import Placement, free_memory, more_room

T = TypeVar("T")
_LEAST_SECONDS, _LEAST_TOKENS = 10.0, 128


def efforts(full: Effort) -> list[Effort]:
    """Return the full effort and smaller ones, each with less to hold than the one before."""
    made = [full]
    for share in (0.5, 0.25):
        if (seconds := full.seconds * share) >= _LEAST_SECONDS:
            made.append(attrs.evolve(made[-1], seconds=seconds))
    if full.max_tokens > _LEAST_TOKENS:
        made.append(attrs.evolve(made[-1], max_tokens=max(full.max_tokens // 2, _LEAST_TOKENS)))
    return [*made, attrs.evolve(made[-1], cache=False)]


def with_less(
    rungs: Sequence[Effort], attempt: Callable[[Effort], T], placement: Placement
) -> tuple[T, Sequence[Effort]]:
    """Return what the first effort that fits in memory gives, and the efforts from that one on.

    Raises:
        ProviderError: not even the least one fits ("memory").
    """
    for number, rung in enumerate(rungs):
        try:
            return attempt(rung), rungs[number:]
        except (MemoryError, RuntimeError) as error:
            if not is_about_memory(error):
                raise
        # only here is nothing left that holds on to the failed attempt's tensors
        free_memory(placement.device)
    least = rungs[-1]
    raise ProviderError(
        f"{placement.device} ran out of memory, even for {least.seconds:.0f} s of audio and {least.max_tokens} tokens"
        f"{more_room(placement)}",
        kind="memory",
    )


def told(full: Effort, used: Effort, heard: float, *, whole: bool) -> Iterator[str]:
    """Yield what was reduced, for people.

    Args:
        full: what was asked for.
        used: what it came to.
        heard: length of the song in seconds.
        whole: the song was heard piece by piece, none of it left out.
    """
    if used.seconds < min(full.seconds, heard):
        part = "in pieces of" if whole else "only"
        yield f"memory was short: heard {part} {used.seconds:.0f} of {heard:.0f} s"
    if used.max_tokens < full.max_tokens:
        yield f"memory was short: the answer had {used.max_tokens} tokens at most"
    if full.cache and not used.cache:
        yield "memory was short: generated without a cache"
