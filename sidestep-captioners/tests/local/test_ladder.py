"""What is tried when memory runs out, and what is told of it."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sidestep_captioners.local.ladder import efforts, told, with_less
from sidestep_captioners.local.listener import Effort
from sidestep_captioners.local.loading import Placement, more_room
from sidestep_core.errors import Cancelled, ProviderError

HERE = Placement(device="cpu", dtype=torch.bfloat16, four_bit=False, offload=False)
FULL = Effort(seconds=120, max_tokens=640)
RUNGS = efforts(FULL)


def full(effort: Effort) -> bool:
    """Tell whether nothing was reduced."""
    return effort == FULL


def test_sound_goes_first_then_the_answer_then_the_cache() -> None:
    assert [
        Effort(seconds=120, max_tokens=640),
        Effort(seconds=60, max_tokens=640),
        Effort(seconds=30, max_tokens=640),
        Effort(seconds=30, max_tokens=320),
        Effort(seconds=30, max_tokens=320, cache=False),
    ] == RUNGS


def test_what_is_short_already_is_not_shortened() -> None:
    assert efforts(Effort(seconds=15, max_tokens=100)) == [
        Effort(seconds=15, max_tokens=100),
        Effort(seconds=15, max_tokens=100, cache=False),
    ]


@given(st.floats(5, 600), st.integers(16, 8192))
def test_every_effort_is_less_than_the_one_before(seconds: float, tokens: int) -> None:
    rungs = efforts(Effort(seconds=seconds, max_tokens=tokens))
    assert rungs[0] == Effort(seconds=seconds, max_tokens=tokens)
    for more, less in pairwise(rungs):
        assert less.seconds <= more.seconds
        assert less.max_tokens <= more.max_tokens
        assert less.cache <= more.cache
        assert less != more
    assert not rungs[-1].cache
    assert rungs[-1].max_tokens >= min(tokens, 128)


def test_the_first_that_fits_is_taken_and_those_before_it_are_done_with() -> None:
    tried: list[Effort] = []

    def attempt(effort: Effort) -> str:
        tried.append(effort)
        if effort.seconds > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "said"

    made, left = with_less(RUNGS, attempt, HERE)
    assert made == "said"
    assert tried == RUNGS[:3]
    assert left == RUNGS[2:]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "mps", "cpu"],
)
def test_allocators_of_all_kinds_are_understood(error: Exception) -> None:
    def attempt(effort: Effort) -> str:
        if full(effort):
            raise error
        return "said"

    assert with_less(RUNGS, attempt, HERE)[0] == "said"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("another"), Cancelled("stopped")])
def test_other_errors_end_it_at_once(error: Exception) -> None:
    tried: list[Effort] = []

    def attempt(effort: Effort) -> str:
        tried.append(effort)
        raise error

    with pytest.raises(type(error)):
        with_less(RUNGS, attempt, HERE)
    assert tried == [FULL]


def test_what_a_failed_attempt_held_is_let_go_before_the_next() -> None:
    class Held:
        """Stands for tensors."""

    held: list[weakref.ref[Held]] = []
    alive: list[int] = []

    def attempt(effort: Effort) -> str:
        alive.append(sum(reference() is not None for reference in held))
        big = Held()
        held.append(weakref.ref(big))
        if full(effort):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "said"

    gc.disable()
    try:
        with_less(RUNGS, attempt, HERE)
    finally:
        gc.enable()
    assert alive == [0, 0]


@pytest.mark.parametrize(
    ("four_bit", "offload", "said"),
    [
        (False, False, "; try four bits (--provider local_8-10gb, or --memory 8-10gb) or --cpu-offload"),
        (True, False, "; try --cpu-offload"),
        (False, True, "; try four bits (--provider local_8-10gb, or --memory 8-10gb)"),
        (True, True, ""),
    ],
)
def test_what_would_help_is_said(four_bit: bool, offload: bool, said: str) -> None:
    assert more_room(Placement(device="cpu", dtype=torch.bfloat16, four_bit=four_bit, offload=offload)) == said


def test_the_end_says_what_was_tried_and_what_would_help() -> None:
    def attempt(effort: Effort) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ProviderError) as caught:
        with_less(RUNGS[-1:], attempt, HERE)
    assert caught.value.kind == "memory"
    assert str(caught.value).startswith("cpu ran out of memory, even for 30 s of audio and 320 tokens; try four bits")


def test_nothing_is_told_when_nothing_was_reduced() -> None:
    assert list(told(FULL, FULL, 300, whole=False)) == []


def test_a_song_that_was_heard_whole_all_the_same_is_not_doubted() -> None:
    assert list(told(FULL, RUNGS[1], 45, whole=False)) == []
    assert list(told(FULL, RUNGS[1], 90, whole=False)) == ["memory was short: heard only 60 of 90 s"]


def test_everything_that_was_reduced_is_told() -> None:
    assert list(told(FULL, RUNGS[-1], 200, whole=True)) == [
        "memory was short: heard in pieces of 30 of 200 s",
        "memory was short: the answer had 320 tokens at most",
        "memory was short: generated without a cache",
    ]
