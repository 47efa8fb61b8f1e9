"""Seeds: one for each purpose and place, the same everywhere."""

import torch
from sidestep_core.training.seeds import generator, seed_of, uniform


def test_a_seed_is_the_same_on_every_machine():
    assert seed_of(42, "noise", 3, 0) == 9183052332058602872


def test_every_part_counts():
    parts = [(1, "a", 2), (2, "a", 2), (1, "b", 2), (1, "a", 3), (1, "a", 2, 0), (1, "a2")]
    assert len({seed_of(*part) for part in parts}) == len(parts)


def test_numbers_and_words_differ():
    assert seed_of(1) != seed_of("1")


def test_uniform_numbers_fill_the_unit_interval():
    drawn = sorted(uniform("test", index) for index in range(2000))
    assert 0 <= drawn[0] < 0.01
    assert 0.99 < drawn[-1] < 1
    assert abs(drawn[1000] - 0.5) < 0.05


def test_generators_of_one_place_draw_the_same():
    first, again, other = (torch.randn(4, generator=generator("cpu", 1, "noise", step)) for step in (5, 5, 6))
    assert first.equal(again)
    assert not first.equal(other)
