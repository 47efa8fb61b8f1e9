"""Signals: stopping work in good order, where the first asks and the second insists, and asking a run for something."""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from sidestep_core.asking import Wish, ask
from sidestep_core.errors import SidestepError

from sidestep_cli.output import warn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, types.FrameType | None], None]


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

    with _handled(dict.fromkeys(SIGNALS, handle)):
        yield stop


@contextmanager
def ask_on_signals(run: Path) -> Iterator[None]:
    """Let SIGUSR1 ask a run of this process for a checkpoint and SIGUSR2 for a preview, where signals are so called."""
    wishes: dict[int, Wish] = {}
    if sys.platform != "win32":
        wishes = {signal.SIGUSR1: "save", signal.SIGUSR2: "preview"}

    def handle(number: int, frame: types.FrameType | None) -> None:
        try:
            ask(run, wishes[number])
        except SidestepError as error:
            warn(str(error))

    with _handled(dict.fromkeys(wishes, handle)):
        yield


@contextmanager
def _handled(handlers: Mapping[int, Handler]) -> Iterator[None]:
    # only the main thread may set handlers; elsewhere the one who embeds us has its own
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number, handle in handlers.items()} if in_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
