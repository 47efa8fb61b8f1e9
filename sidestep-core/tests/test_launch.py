"""The place of a process among those that a launcher started."""

import pytest
from sidestep_core.launch import Launch, launched

VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@pytest.fixture
def place(monkeypatch):
    """Return a function that gives the place under an environment."""

    def under(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        return launched()

    return under


def test_a_process_that_was_started_alone_is_the_main_one(place):
    assert place() == Launch(rank=0, count=1, local_rank=0, local_count=1)
    assert place().main


def test_a_world_without_a_place_in_it_is_not_a_launcher_s(place):
    assert place(WORLD_SIZE=8) == Launch()


def test_the_launcher_s_numbers_are_taken(place):
    there = place(LOCAL_RANK=1, RANK=3, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2)
    assert there == Launch(rank=3, count=4, local_rank=1, local_count=2)
    assert not there.main


def test_all_are_on_one_machine_where_nothing_else_is_said(place):
    assert place(LOCAL_RANK=0, RANK=0, WORLD_SIZE=4).local_count == 4


def test_the_first_of_another_machine_is_not_the_main_one(place):
    assert not place(LOCAL_RANK=0, RANK=2, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2).main
