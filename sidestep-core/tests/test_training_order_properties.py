"""What holds of the order and the batches of any set, whatever its lengths, repeats and settings."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sidestep_core.configs import DataConfig
from sidestep_core.model.layout import resolve_model
from sidestep_core.store.index import StoredSong
from sidestep_core.store.tensors import load_conditioning, load_latents
from sidestep_core.testing.tiny_run import write_noise
from sidestep_core.training.batches import Batches, pad
from sidestep_core.training.order import Order
from sidestep_core.training.sets import TrainSong, songs_of

LENGTHS = [13, 40, 41, 70]
FIVE_TIMES = DataConfig(dataset_repeats=(5,))


def a_song(name, frames, visits):
    stored = StoredSong(name=name, frames=frames, rows=5, seconds=frames / 25)
    return TrainSong(name=name, store=None, stored=stored, visits=visits)


@st.composite
def orders(draw):
    rows = draw(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 9)), min_size=1, max_size=12))
    songs = [a_song(f"{index}.wav", frames, visits) for index, (frames, visits) in enumerate(rows)]
    return Order(
        songs=songs,
        seed=draw(st.integers(0, 2**32)),
        batch_size=draw(st.integers(1, 7)),
        accumulation=draw(st.integers(1, 5)),
        window=draw(st.none() | st.integers(1, 500)),
        dropout=draw(st.sampled_from([0.0, 0.15, 1.0])),
    )


def any_order(test):
    return settings(deadline=None, max_examples=60)(given(orders(), st.data())(test))


def crops_of(plans):
    return [crop for plan in plans for crop in plan.crops]


def epoch_plans(order, epoch):
    return list(order.plans(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch))


@any_order
def test_every_visit_of_every_song_comes_once_in_an_epoch(order, data):
    plans = epoch_plans(order, data.draw(st.integers(0, 3)))
    visits = {i: song.visits for i, song in enumerate(order.songs)}
    assert Counter(crop.song for crop in crops_of(plans)) == visits
    assert len({crop.draw for crop in crops_of(plans)}) == sum(visits.values())


@any_order
def test_crops_are_as_long_as_the_window_and_lie_inside_their_songs(order, data):
    for crop in crops_of(epoch_plans(order, data.draw(st.integers(0, 50)))):
        frames = order.songs[crop.song].frames
        assert crop.length == min(frames, order.window or frames)
        assert 0 <= crop.start <= frames - crop.length


@any_order
def test_plans_of_any_stretch_are_those_of_the_whole_run(order, data):
    last = order.steps_per_epoch * 3
    first, middle = sorted(data.draw(st.tuples(st.integers(0, last), st.integers(0, last))))
    whole = list(order.plans(0, last))
    assert list(order.plans(0, first)) + list(order.plans(first, middle)) + list(order.plans(middle, last)) == whole
    assert list(order.plans(first, middle)) == [plan for plan in whole if first <= plan.step < middle]


@any_order
def test_a_step_counts_the_frames_of_all_its_crops(order, data):
    for _, step in groupby(epoch_plans(order, data.draw(st.integers(0, 3))), key=lambda plan: plan.step):
        plans = list(step)
        assert {plan.step_frames for plan in plans} == {sum(crop.length for crop in crops_of(plans))}
        assert [plan.micro for plan in plans] == list(range(len(plans)))


@any_order
def test_only_the_last_step_and_one_batch_of_an_epoch_may_be_short(order, data):
    plans = epoch_plans(order, data.draw(st.integers(0, 3)))
    sizes = sorted(len(plan.crops) for plan in plans)
    assert sizes[1:] == [order.batch_size] * (len(sizes) - 1)
    per_step = list(Counter(plan.step for plan in plans).values())
    assert per_step[:-1] == [order.accumulation] * (len(per_step) - 1)


@any_order
def test_batches_hold_songs_that_follow_each_other_in_length(order, data):
    batches = sorted(
        (sorted(crop.length for crop in plan.crops) for plan in epoch_plans(order, data.draw(st.integers(0, 3)))),
        key=lambda lengths: (lengths[0], lengths[-1]),
    )
    if order.batch_size > 1:
        # neighbours may overlap by what lengths are shaken by, and by no more
        assert all(longer[0] >= shorter[-1] * 0.98 - 1 for shorter, longer in pairwise(batches))


@any_order
def test_the_share_of_dropped_conditions_changes_nothing_else(order, data):
    epoch = data.draw(st.integers(0, 3))
    kept = epoch_plans(attrs.evolve(order, dropout=0.0), epoch)
    dropped = epoch_plans(attrs.evolve(order, dropout=1.0), epoch)
    assert all(crop.dropped for crop in crops_of(dropped))
    assert [attrs.evolve(crop, dropped=False) for crop in crops_of(dropped)] == crops_of(kept)


@given(
    seed=st.integers(0, 2**32),
    window=st.integers(1, 100),
    room=st.integers(100, 5000),
    repeat=st.integers(1, 4),
    epochs=st.integers(2, 40),
)
@settings(deadline=None, max_examples=60)
def test_crops_of_any_number_of_visits_spread_over_the_song(seed, window, room, repeat, epochs):
    song = a_song("a.wav", window + room, repeat)
    order = Order(songs=[song], seed=seed, batch_size=1, accumulation=1, window=window)
    starts = sorted(crop.start for epoch in range(epochs) for crop in crops_of(epoch_plans(order, epoch)))
    gaps = [after - before for before, after in pairwise([*starts, starts[0] + room + 1])]
    assert max(gaps) <= 2 * (room + 1) / len(starts) + 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_the_mask_of_any_lengths_marks_exactly_what_is_real(lengths):
    samples = [torch.randn(length, 3) + 5 for length in lengths]
    stacked, real = pad(samples)
    assert stacked.shape == (len(lengths), max(lengths), 3)
    if real is None:
        assert len(set(lengths)) == 1
        real = torch.ones(stacked.shape[:2], dtype=torch.bool)
    assert real.sum(dim=1).tolist() == lengths
    assert all(row[mask].equal(sample) for row, mask, sample in zip(stacked, real, samples, strict=True))
    assert not stacked[~real].any()


# Batches of a real set


@pytest.fixture(scope="module")
def batches(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    store = write_noise(tmp_path_factory.mktemp("store"), model, frames=LENGTHS, rows=[3, 8, 5], latent="resample")
    return store, Batches(songs_of((store,), FIVE_TIMES), torch.full((1, 64), 0.5), in_memory=True)


@pytest.fixture(params=[(1, None), (2, None), (3, 20), (4, 50)], ids=lambda p: f"{p[0]} of {p[1]}")
def made(request, batches):
    store, data = batches
    size, window = request.param
    order = Order(
        songs=songs_of((store,), FIVE_TIMES), seed=3, batch_size=size, accumulation=2, window=window, dropout=0.3
    )
    return store, [data[plan] for plan in epoch_plans(order, 0)]


def lengths(mask, tensor):
    return [tensor.shape[1]] * len(tensor) if mask is None else mask.sum(dim=1).tolist()


def test_masks_of_frames_are_as_long_as_the_crops(made):
    for batch in made[1]:
        assert lengths(batch.frames, batch.latents) == [crop.length for crop in batch.plan.crops]


def test_masks_of_rows_are_as_long_as_the_conditions(made):
    store, batches = made
    for batch in batches:
        wanted = [1 if crop.dropped else store.songs[crop.song].rows for crop in batch.plan.crops]
        assert lengths(batch.rows, batch.conditioning) == wanted


def test_what_is_not_dropped_is_the_song_s_own_condition(made):
    store, batches = made
    kept = [
        (row[: store.songs[crop.song].rows], load_conditioning(store, store.songs[crop.song]))
        for batch in batches
        for row, crop in zip(batch.conditioning, batch.plan.crops, strict=True)
        if not crop.dropped
    ]
    assert len(kept) > 5
    assert all(row.equal(stored) for row, stored in kept)


def test_frames_are_drawn_around_the_mean_of_their_own_stretch(made):
    store, batches = made
    for batch in batches:
        for row, crop in zip(batch.latents, batch.plan.crops, strict=True):
            stored = load_latents(store, store.songs[crop.song])
            stretch = slice(crop.start, crop.start + crop.length)
            noise = (row[: crop.length] - stored.mean[stretch]) / stored.std[stretch].clamp(min=1e-6)
            assert noise.abs().max() < 7
            assert noise.std() == pytest.approx(1, abs=0.2)
