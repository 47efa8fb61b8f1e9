"""The order of the data: every song, evenly, in lengths that fit together, the same whenever it is asked for."""

from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from sidestep_core.store.index import StoredSong, TensorStore
from sidestep_core.training.order import Order
from sidestep_core.training.sets import TrainSong


def songs(*frames, visits=1):
    store = TensorStore(path=Path("tensors"))
    stored = [
        StoredSong(name=f"{i}.wav", frames=length, rows=5, seconds=length / 25) for i, length in enumerate(frames)
    ]
    return [TrainSong(name=song.name, store=store, stored=song, visits=visits) for song in stored]


def order(*frames, visits=1, **settings):
    defaults = {"seed": 7, "batch_size": 1, "accumulation": 1}
    return Order(songs=songs(*frames, visits=visits), **{**defaults, **settings})


def visited(batches):
    return sorted(crop.song for batch in batches for crop in batch)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_epoch_visits_every_song_once(batch_size):
    assert visited(order(*range(50, 60), batch_size=batch_size).epoch(0)) == list(range(10))


def test_a_song_is_visited_as_often_as_it_says():
    data = order(50, 60)
    data = attrs.evolve(data, songs=[attrs.evolve(data.songs[0], visits=3), data.songs[1]])
    assert visited(data.epoch(0)) == [0, 0, 0, 1]


def test_samples_have_the_weight_of_their_song():
    data = order(50, 60)
    data = attrs.evolve(data, songs=[attrs.evolve(data.songs[0], weight=0.5), data.songs[1]])
    assert {crop.song: crop.weight for batch in data.epoch(0) for crop in batch} == {0: 0.5, 1: 1.0}


def test_epochs_have_orders_of_their_own():
    data = order(*[50] * 20)
    first, second = ([batch[0].song for batch in data.epoch(epoch)] for epoch in (0, 1))
    assert first != second


def test_seeds_have_orders_of_their_own():
    first, second = ([batch[0].song for batch in order(*[50] * 20, seed=seed).epoch(0)] for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize("first", [0, 1, 3, 4, 5, 9, 11, 12])
def test_plans_from_any_step_are_those_of_the_whole_run(first):
    data = order(*[50] * 11, batch_size=2, accumulation=2, window=20, dropout=0.5)
    everything = list(data.plans(0, 12))
    assert list(data.plans(first, 12)) == [plan for plan in everything if plan.step >= first]


def test_plans_end_where_they_are_told_to():
    assert {plan.step for plan in order(*[50] * 10).plans(0, 7)} == set(range(7))


@pytest.mark.parametrize(
    ("count", "batch_size", "accumulation", "steps"), [(10, 1, 4, 3), (10, 4, 1, 3), (3, 8, 8, 1), (8, 2, 2, 2)]
)
def test_steps_per_epoch_are_rounded_up(count, batch_size, accumulation, steps):
    data = order(*[50] * count, batch_size=batch_size, accumulation=accumulation)
    assert data.steps_per_epoch == steps
    assert {plan.step for plan in data.plans(0, steps)} == set(range(steps))


def test_a_step_knows_its_real_frames_the_short_last_one_too():
    data = order(50, 60, 70, accumulation=2)
    plans = list(data.plans(0, 2))
    sums = {step: sum(crop.length for plan in plans if plan.step == step for crop in plan.crops) for step in (0, 1)}
    assert all(plan.step_frames == sums[plan.step] for plan in plans)
    assert [plan.micro for plan in plans] == [0, 1, 0]


def test_whole_songs_are_used_without_a_window():
    (crop,) = order(50).epoch(0)[0]
    assert (crop.start, crop.length) == (0, 50)


def test_a_song_shorter_than_the_window_is_used_whole():
    (crop,) = order(50, window=80).epoch(0)[0]
    assert (crop.start, crop.length) == (0, 50)


def test_crops_stay_inside_the_song():
    crops = [batch[0] for epoch in range(200) for batch in order(57, window=50).epoch(epoch)]
    assert {crop.start for crop in crops} == set(range(8))


def test_crops_are_spread_evenly_over_the_song():
    starts = sorted(order(1050, window=50).epoch(epoch)[0][0].start for epoch in range(100))
    gaps = [after - before for before, after in pairwise(starts)]
    assert max(gaps) < 25  # random offsets of this number leave gaps of 50 and more


def test_songs_are_cut_in_different_places():
    assert len({batch[0].start for batch in order(*[1000] * 10, window=50).epoch(0)}) > 5


def test_every_visit_draws_for_itself():
    data = order(50, 60, visits=3)
    draws = [crop.draw for epoch in range(5) for batch in data.epoch(epoch) for crop in batch]
    assert len(set(draws)) == 30


def test_batches_hold_similar_lengths():
    lengths = [750 + 37 * (index * 71 % 200) for index in range(200)]
    batches = order(*lengths, batch_size=4).epoch(0)
    padded = sum(len(batch) * max(crop.length for crop in batch) for batch in batches)
    assert 1 - sum(lengths) / padded < 0.03


def test_the_share_of_padding_is_known():
    assert order(50, 50, 50, batch_size=3).padding == 0
    assert order(50, 100, batch_size=2).padding == pytest.approx(0.25)


def test_batches_of_similar_lengths_come_in_any_order():
    batches = order(*range(100, 500, 4), batch_size=4).epoch(0)
    longest = [max(crop.length for crop in batch) for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 400, 400), (0.15, 40, 80)])
def test_a_share_of_the_samples_loses_its_condition(share, least, most):
    plans = order(*[50] * 40, dropout=share).plans(0, 400)
    assert least <= sum(crop.dropped for plan in plans for crop in plan.crops) <= most
