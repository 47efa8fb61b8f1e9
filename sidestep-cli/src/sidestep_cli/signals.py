"""Stopping work in good order: the first signal asks, the second insists."""

from __future__ import annotations

import signal
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager

import click

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal asked to stop; called by the work at every point where it can."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        """Return whether the work should end."""
        return self.number is not None

    def exit_code(self, otherwise: int = 0) -> int:
        """Return 128 + the signal's number, or the other code when there was none."""
        return otherwise if self.number is None else 128 + self.number


@contextmanager
def stop_on_signals(promise: str) -> Iterator[Stop]:
    """Yield a flag that the first SIGINT or SIGTERM sets; a second one ends the program at once.

    Args:
        promise: what happens until it stops, told to the user with the first signal.
    """
    stop = Stop()

    def handle(number: int, frame: types.FrameType | None) -> None:
        if stop():
            raise SystemExit(128 + number)
        stop.number = number
        click.echo(f"\nstopping: {promise} (again to stop at once)", err=True)

    # only the main thread may set handlers; elsewhere the one who embeds us has its own
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in SIGNALS} if in_main else {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
