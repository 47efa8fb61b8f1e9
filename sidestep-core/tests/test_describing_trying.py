"""Asking a provider again: for failures that pass, as long as it asks for, and never past a wish to stop."""

from __future__ import annotations

import time
from typing import Any

import pytest
import stamina
from sidestep_core.describing.trying import LONGEST_WAIT, Gate, Wait, persist
from sidestep_core.errors import Cancelled, ProviderError


@pytest.fixture(autouse=True)
def no_growing_waits():
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


class Service:
    """Fails as planned, then answers."""

    def __init__(self, *failures: ProviderError) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


def ask(service: Any, *, tries: int = 4, gate: Gate | None = None, cancelled=lambda: False) -> tuple[str, list[Wait]]:
    waits: list[Wait] = []
    gate = gate or Gate("radio", 1)
    return persist(service, gate, tries=tries, cancelled=cancelled, told=waits.append), waits


def failure(kind: Any, after: float | None = None) -> ProviderError:
    return ProviderError(f"failed: {kind}", kind=kind, retry_after=after)


def test_what_may_pass_is_tried_again():
    service = Service(failure("rate"), failure("unreachable"))
    answer, waits = ask(service)
    assert (answer, service.calls) == ("answer", 3)
    assert [(wait.provider, wait.reason) for wait in waits] == [
        ("radio", "failed: rate"),
        ("radio", "failed: unreachable"),
    ]


@pytest.mark.parametrize(
    "kind", ["key", "quota", "refused", "too large", "no audio", "not found", "bad answer", "memory"]
)
def test_what_does_not_pass_is_asked_once(kind):
    service = Service(failure(kind))
    with pytest.raises(ProviderError, match=f"failed: {kind}") as caught:
        ask(service)
    assert (caught.value.kind, service.calls) == (kind, 1)


def test_it_is_asked_as_often_as_was_said():
    service = Service(*[failure("unreachable")] * 9)
    with pytest.raises(ProviderError, match="unreachable"):
        ask(service, tries=3)
    assert service.calls == 3


def test_one_try_waits_for_nothing():
    service = Service(failure("rate", after=100.0))
    with pytest.raises(ProviderError):
        ask(service, tries=1)
    assert service.calls == 1


def test_other_errors_are_not_tried_again():
    def broken() -> str:
        calls.append(1)
        raise UnicodeEncodeError("ascii", "ö", 0, 1, "no")

    calls: list[int] = []
    with pytest.raises(UnicodeEncodeError):
        ask(broken)
    assert len(calls) == 1


def test_a_busy_service_is_left_alone_as_long_as_it_asks():
    gate = Gate("radio", 2)
    before = time.monotonic()
    _, (wait,) = ask(Service(failure("rate", after=0.3)), gate=gate)
    assert time.monotonic() - before >= 0.3
    assert wait.seconds >= 0.3


def test_everybody_waits_for_a_busy_service():
    gate = Gate("radio", 2)
    gate.close(0.3)
    before = time.monotonic()
    ask(Service(), gate=gate)
    assert time.monotonic() - before >= 0.3


def test_a_service_that_wants_hours_has_nothing_left():
    with pytest.raises(ProviderError, match="it asks to wait 3600 s") as caught:
        ask(Service(failure("rate", after=3600.0)))
    assert caught.value.kind == "quota"
    assert LONGEST_WAIT < 3600


def test_waiting_ends_when_the_user_stops():
    answers = iter([False, False, True])
    service = Service(failure("rate", after=200.0))
    with pytest.raises(Cancelled):
        ask(service, cancelled=lambda: next(answers, True))
    assert service.calls == 1


def test_nobody_is_asked_after_the_user_stopped():
    service = Service()
    with pytest.raises(Cancelled):
        ask(service, cancelled=lambda: True)
    assert service.calls == 0
