"""Processes that a launcher started together: what one says all hear, tensors are summed, and they end as one.

A process that was started alone is a team of one: it hears itself, and there is nothing to sum or to wait for.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, distributed

from sidestep_core import errors
from sidestep_core.errors import OtherProcessFailed, SidestepError
from sidestep_core.launch import Launch, launched

T = TypeVar("T")

# for all to arrive: they were started together
JOINING = timedelta(minutes=5)
# for one that works while the others wait. Not a guard: one that fails says so, one that dies breaks the connection
WAITING = timedelta(days=2)
# elements that are summed at once: bounds the copy that is made of them
BUCKET = 2**24


class Over(Exception):
    """The main process has ended the work."""


class Team:
    """The processes of one piece of work; a context manager around all of it.

    Every process must exchange as often as the others. Leaving the block is the last exchange: an error in one process
    reaches the others at their next one and ends them too, and when the main process leaves, the others are done.

    Args:
        place: of this process.
        stop: asks whether this process should stop.
        messages: connection for what is said, None if this process is alone.
    """

    def __init__(self, place: Launch, stop: Callable[[], bool], messages: Any = None) -> None:
        self.rank, self.count, self.main = place.rank, place.count, place.main
        self._stop, self._others_stop = stop, False
        self._messages = messages
        self._over = messages is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Over):
            return True
        if not self._over:
            self._leave(error)
        return False

    def _leave(self, error: BaseException | None) -> None:
        self._over = True
        if error is None:
            self._hear({"over": True})
        elif isinstance(error, Exception):
            with suppress(OtherProcessFailed, SidestepError):  # its own error is what counts
                self._hear({"failed": _describe(error)})
        elif isinstance(error, GeneratorExit):  # nobody wants to hear more
            with suppress(OtherProcessFailed, SidestepError):
                self._hear({"over": True})
        # anything else ends the process at once, and that ends the others

    def stopping(self) -> bool:
        """Return whether this process was asked to stop, or any other when they last met."""
        return self._stop() or self._others_stop

    def meet(self) -> None:
        """Wait until all have come this far, and hear whether anyone was asked to stop.

        Raises:
            OtherProcessFailed, SidestepError: another process failed.
        """
        if self.count > 1:
            self._others_stop = any(self.exchange(self._stop()))

    def exchange(self, value: T) -> list[T]:
        """Give all processes a value that JSON can hold; return those of all, in the order of the ranks.

        Raises:
            OtherProcessFailed, SidestepError: another process failed.
        """
        if self.count == 1:
            return [value]
        said = self._hear({"value": value})
        if "over" in said[0]:
            self._over = True
            raise Over
        return [message["value"] for message in said]

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items that are this process's to work on."""
        return items[self.rank :: self.count]

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over all processes, in place."""
        self._in_buckets(tensors, distributed.all_reduce)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have in the main process."""
        self._in_buckets(tensors, lambda flat: distributed.broadcast(flat, 0))

    def _in_buckets(self, tensors: Iterable[Tensor], change: Callable[[Tensor], Any]) -> None:
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
            self._guard(partial(change, flat))
            for tensor, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def _hear(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Say a message and return what everyone said; if one said that it failed, raise what it says."""
        said = self._guard(lambda: _gather(json.dumps(message).encode(), self.count, self._messages))
        for rank, heard in enumerate(said):
            if "failed" in heard:
                self._over = True
                raise _error(rank, self.count, **heard["failed"])
        return said

    def _guard(self, talk: Callable[[], T]) -> T:
        try:
            return talk()
        except RuntimeError as error:
            self._over = True
            raise OtherProcessFailed(
                f"another of the {self.count} processes is gone ({str(error).splitlines()[0]}); look for its last words"
            ) from error


def join(device: str, stop: Callable[[], bool]) -> Team:
    """Return the team of this process, once all of it is there.

    Args:
        device: what this process computes on; it decides how tensors travel.
        stop: asks whether this process should stop.
    """
    place = launched()
    if place.count == 1:
        return Team(place, stop)
    if not distributed.is_initialized():
        # Accelerate keeps one state for the whole process
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState(cpu=device == "cpu", timeout=JOINING)
        atexit.register(_part)
    return Team(place, stop, distributed.new_group(backend="gloo", timeout=WAITING))


def _part() -> None:
    """End the connections: their threads abort a process that ends while they run."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _gather(data: bytes, count: int, group: Any) -> list[dict[str, Any]]:
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(count)]
    distributed.all_gather(lengths, torch.tensor([len(data)]), group=group)
    longest = max(int(length) for length in lengths)
    parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(count)]
    distributed.all_gather(parts, torch.frombuffer(bytearray(data.ljust(longest)), dtype=torch.uint8), group=group)
    return [json.loads(part.numpy().tobytes()) for part in parts]  # JSON takes no note of spaces at the end


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def _describe(error: BaseException | None) -> dict[str, str]:
    known = isinstance(error, SidestepError)
    return {"kind": type(error).__name__, "text": str(error) if known else f"{type(error).__name__}: {error}"}


def _error(rank: int, count: int, *, kind: str, text: str) -> SidestepError:
    """Return the error of another process as one of this process, so that all end with the same exit code."""
    known = getattr(errors, kind, None)
    message = f"process {rank} of {count}: {text}"
    is_ours = isinstance(known, type) and issubclass(known, SidestepError)
    return known(message) if is_ours else OtherProcessFailed(message)  # type: ignore[misc]
