"""Asking a provider again: which failures may pass, how long to wait, and waiting so that it can be cut short."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import attrs
import stamina

from sidestep_core.errors import Cancelled, ProviderError

T = TypeVar("T")
PASSING = ("rate", "unreachable")
# a service that asks to wait longer has nothing left to give for now
LONGEST_WAIT = 300.0
_FIRST_WAIT, _HIGHEST_WAIT, _TICK = 1.0, 60.0, 0.1


@attrs.frozen(kw_only=True)
class Wait:
    """A call that will be made again: whose, when and why."""

    provider: str
    seconds: float
    reason: str


@attrs.define
class Gate:
    """How many may call a provider at once, and until when all of them wait."""

    name: str
    width: int
    opens: float = 0.0
    _places: threading.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._places = threading.Semaphore(self.width)

    def call(self, function: Callable[[], T], cancelled: Callable[[], bool]) -> T:
        """Call a function once it may be called; raise `Cancelled` if that does not come any more."""
        with self._places:
            while (left := self.opens - time.monotonic()) > 0 and not cancelled():
                time.sleep(min(left, _TICK))
            if cancelled():
                raise Cancelled("stopped before the provider was asked")
            return function()

    def close(self, seconds: float) -> None:
        """Let nobody call for a while."""
        self.opens = max(self.opens, time.monotonic() + seconds)


def persist(
    function: Callable[[], T],
    gate: Gate,
    *,
    tries: int,
    cancelled: Callable[[], bool],
    told: Callable[[Wait], None],
) -> T:
    """Call a provider until it answers, fails for good, or failed `tries` times.

    A busy service closes the gate for all who call it, for as long as it asks or a growing time; one that cannot be
    reached is tried again by this caller alone.

    Raises:
        ProviderError: the last failure; one that asks to wait very long counts as a spent quota.
        Cancelled: the user asked to stop, also while this waits.
    """
    own = Gate(gate.name, 1)
    # stamina counts, tells which failures may pass and how waits grow; it does not wait, since its waits cannot be cut
    for attempt in stamina.retry_context(
        on=_passes, attempts=tries, timeout=None, wait_initial=_FIRST_WAIT, wait_max=_HIGHEST_WAIT
    ):
        with attempt:
            try:
                return own.call(lambda: gate.call(function, cancelled), cancelled)
            except ProviderError as error:
                if error.kind == "rate" and (error.retry_after or 0.0) > LONGEST_WAIT:
                    raise ProviderError(f"{error}; it asks to wait {error.retry_after:.0f} s", kind="quota") from error
                if error.kind in PASSING and attempt.num < tries:
                    pause = _pause(error, attempt.next_wait)
                    (gate if error.kind == "rate" else own).close(pause)
                    told(Wait(provider=gate.name, seconds=pause, reason=str(error)))
                raise
    raise AssertionError("stamina ends with a result or an error")


def _passes(error: Exception) -> bool | float:
    # 0.0: try again, without a wait of stamina's own
    return 0.0 if isinstance(error, ProviderError) and error.kind in PASSING else False


def _pause(error: ProviderError, growing: float) -> float:
    # what the service asked for is never cut short; the jitter keeps callers from coming back all at once
    return (growing if error.retry_after is None else error.retry_after) + random.uniform(0, growing / 2)
