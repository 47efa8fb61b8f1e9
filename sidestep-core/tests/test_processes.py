"""Processes that work together, as real processes. Run as a script, this is one of them."""

import json
import os
import signal
import sys
import time

import pytest
import torch
from sidestep_core import processes as module
from sidestep_core.errors import Cancelled, StoreError
from sidestep_core.launch import Launch, launched
from sidestep_core.processes import Team, join
from sidestep_core.testing.launched import run_together, start_together, wait_for


def never():
    return False


@pytest.fixture
def alone():
    return Team(Launch(), never)


def test_one_process_hears_itself(alone):
    assert alone.exchange({"a": 1}) == [{"a": 1}]


def test_one_process_has_all_the_work(alone):
    assert alone.main
    assert alone.own([1, 2, 3]) == [1, 2, 3]


def test_one_process_has_nothing_to_add_up(alone):
    tensor = torch.ones(3)
    alone.sum([tensor])
    alone.share([tensor])
    assert tensor.tolist() == [1, 1, 1]


def test_one_process_stops_when_it_is_asked():
    asked = iter([False, True])
    team = Team(Launch(), lambda: next(asked))
    team.meet()
    assert [team.stopping(), team.stopping()] == [False, True]


def test_an_error_of_one_process_is_its_own(alone):
    with pytest.raises(ZeroDivisionError), alone:
        raise ZeroDivisionError


def test_items_are_dealt_out_in_turn():
    shares = [Team(Launch(rank=rank, count=3), never).own(range(7)) for rank in range(3)]
    assert list(map(list, shares)) == [[0, 3, 6], [1, 4], [2, 5]]


def together(what):
    return run_together([__file__, what])


def answers(ended):
    assert [one.code for one in ended] == [0] * len(ended), ended
    return [json.loads(one.out) for one in ended]


def test_processes_hear_each_other_and_add_up():
    for rank, answer in enumerate(answers(together("talk"))):
        assert answer["exchanged"] == [["ünï", 0], ["ünï" * 100_000, 1]]
        assert answer["sums"] == [[3, 3], [[30], [60]], [3] * 5]
        assert answer["shared"] == [0, 0]
        # the second one asked to stop, and the first knows of it once they met
        assert answer["stopping"] == [[False, True], [True, True]][rank]


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others_with_the_same_error():
    first, second = together("fail")
    assert "StoreError: process 1 of 2: 'x' is damaged" in first.err
    assert "StoreError: 'x' is damaged" in second.err
    assert {first.code, second.code} == {1}


@pytest.mark.slow
def test_an_error_of_a_library_is_named_in_the_other_processes():
    first, second = together("break")
    assert "OtherProcessFailed: process 1 of 2: ZeroDivisionError: by nothing" in first.err
    assert "ZeroDivisionError: by nothing" in second.err


@pytest.mark.slow
def test_when_the_main_process_leaves_the_others_are_done():
    assert [one["steps"] for one in answers(together("leave"))] == [3, 3]


@pytest.mark.slow
def test_stopping_is_an_error_like_others():
    assert [one["caught"] for one in answers(together("cancel"))] == ["process 1 of 2: asked", "asked"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send SIGKILL")
def test_a_process_that_is_killed_does_not_leave_the_others_waiting():
    processes = start_together([__file__, "wait"])
    for process in processes:
        assert process.stdout.readline() == "there\n"
    processes[1].send_signal(signal.SIGKILL)
    first, _ = wait_for(processes, seconds=60)
    assert "OtherProcessFailed: another of the 2 processes is gone" in first.err


def talk():
    rank = launched().rank
    module.BUCKET = 4  # so that one tensor is larger, and the others share
    with join("cpu", lambda: rank == 1) as team:
        small, square, large = torch.ones(2), torch.tensor([[10.0], [20.0]]), torch.ones(5)
        tensors = [tensor.mul_(rank + 1) for tensor in (small, square, large)]
        exchanged = team.exchange(["ünï" * (1 if rank == 0 else 100_000), rank])
        before = team.stopping()
        team.meet()
        stopping = [before, team.stopping()]
        team.sum(tensors)
        shared = torch.full((2,), float(rank))
        team.share([shared])
        sums = [tensor.tolist() for tensor in tensors]
        return {"exchanged": exchanged, "sums": sums, "shared": shared.tolist(), "stopping": stopping}


def fail():
    with join("cpu", never) as team:
        if team.rank:
            raise StoreError("'x' is damaged")
        team.exchange(1)


def broken():
    with join("cpu", never) as team:
        if team.rank:
            raise ZeroDivisionError("by nothing")
        team.exchange(1)


def leave():
    steps = 0
    with join("cpu", never) as team:
        while steps < 3 or not team.main:
            team.exchange(steps)
            steps += 1
    return {"steps": steps}


def cancel():
    try:
        with join("cpu", never) as team:
            if team.rank:
                raise Cancelled("asked")
            team.exchange(1)
    except Cancelled as error:
        return {"caught": str(error)}


def wait():
    with join("cpu", never) as team:
        print("there", flush=True)
        if team.rank:
            time.sleep(600)
        team.exchange(1)


PARTS = {"talk": talk, "fail": fail, "break": broken, "leave": leave, "cancel": cancel, "wait": wait}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]]()))
