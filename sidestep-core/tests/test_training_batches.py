"""Batches: crops, padding, dropped conditions, and tensors that may or may not be kept in memory."""

import pytest
import safetensors.torch
import torch
from sidestep_core.configs import DataConfig
from sidestep_core.errors import StoreError
from sidestep_core.model.layout import resolve_model
from sidestep_core.store.tensors import Latents, load_conditioning, load_latents
from sidestep_core.testing.tiny_run import write_noise
from sidestep_core.training.batches import Batches, cut, load_batches, pad, stored_bytes
from sidestep_core.training.order import BatchPlan, Crop, Order
from sidestep_core.training.sets import songs_of


@pytest.fixture
def store(tmp_path, tiny_checkpoint):
    return write_noise(tmp_path, resolve_model(tiny_checkpoint, "base"), frames=[40, 50, 60], rows=[5, 9])


@pytest.fixture
def batches(store):
    return Batches(songs_of([store], DataConfig()), torch.full((1, 64), 0.5), in_memory=True)


def plan(*crops):
    return BatchPlan(step=0, micro=0, crops=crops, step_frames=sum(crop.length for crop in crops))


def order(store, **settings):
    return Order(songs=songs_of([store], DataConfig()), seed=1, batch_size=2, accumulation=1, **settings)


def test_equal_lengths_need_no_mask():
    stacked, real = pad([torch.ones(3, 2), torch.zeros(3, 2)])
    assert (stacked.shape, real) == ((2, 3, 2), None)


def test_shorter_samples_are_filled_with_zeros_and_marked():
    stacked, real = pad([torch.ones(3, 2), torch.ones(1, 2)])
    assert stacked[:, :, 0].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert real.tolist() == [[True, True, True], [True, False, False]]


def test_a_crop_is_a_stretch_of_the_latents(store, batches):
    batch = batches[plan(Crop(1, 10, 20, 0))]
    assert batch.latents[0].equal(load_latents(store, store.songs[1]).mean[10:30])


def test_the_condition_is_the_song_s(store, batches):
    batch = batches[plan(Crop(1, 10, 20, 0))]
    assert batch.conditioning[0].equal(load_conditioning(store, store.songs[1]))


def test_a_dropped_condition_is_the_one_empty_row(batches):
    batch = batches[plan(Crop(1, 0, 20, 0, dropped=True))]
    assert batch.conditioning.tolist() == [[[0.5] * 64]]


def test_a_dropped_condition_beside_another_is_masked_to_one_row(batches):
    batch = batches[plan(Crop(0, 0, 20, 0, dropped=True), Crop(0, 0, 20, 0))]
    assert batch.rows.sum(dim=1).tolist() == [1, 5]


def test_frames_and_rows_are_masked_apart(batches):
    batch = batches[plan(Crop(0, 0, 40, 0), Crop(1, 0, 50, 0))]
    assert batch.frames.sum(dim=1).tolist() == [40, 50]
    assert batch.rows.sum(dim=1).tolist() == [5, 9]


def test_stored_deviations_are_drawn_from_anew_for_every_visit():
    latents = Latents(torch.zeros(30, 64), torch.ones(30, 64))
    first, again, other = (cut(latents, Crop(0, 5, 10, draw)) for draw in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert first.std() == pytest.approx(1.0, abs=0.1)


def test_a_mean_is_never_drawn_from():
    latents = Latents(torch.arange(60.0).reshape(30, 2))
    assert cut(latents, Crop(0, 5, 10, 1)).equal(latents.mean[5:15])


@pytest.mark.parametrize("in_memory", [True, False])
def test_tensors_are_the_same_wherever_they_are_kept(store, in_memory):
    batches = Batches(songs_of([store], DataConfig()), torch.zeros(1, 64), in_memory=in_memory)
    batch = batches[plan(Crop(2, 3, 50, 0))]
    assert batch.latents[0].equal(load_latents(store, store.songs[2]).mean[3:53])


def test_songs_kept_in_memory_are_read_once(store, batches):
    store.latents_file(store.songs[0]).unlink()
    assert batches[plan(Crop(0, 0, 40, 0))].latents.shape == (1, 40, 64)


def test_a_tensor_that_is_not_finite_is_refused_by_name(store):
    file = store.latents_file(store.songs[1])
    safetensors.torch.save_file({"latents": torch.full((50, 64), torch.nan)}, file)
    with pytest.raises(StoreError, match=f"{file.name}' holds values that are not finite"):
        Batches(songs_of([store], DataConfig()), torch.zeros(1, 64), in_memory=True)


def test_a_batch_goes_to_the_device_in_the_dtypes_of_its_use(batches):
    batch = batches[plan(Crop(0, 0, 40, 0), Crop(1, 0, 50, 0))].to(torch.device("cpu"), torch.bfloat16)
    assert (batch.latents.dtype, batch.conditioning.dtype) == (torch.float32, torch.bfloat16)
    assert batch.frames.dtype == batch.rows.dtype == torch.bool


def test_batches_come_in_the_order_of_the_plans(store, batches):
    plans = list(order(store).plans(0, 6))
    loaded = load_batches(batches, plans, DataConfig(), workers=False, pin=False)
    assert [batch.plan for batch in loaded] == plans


def test_loader_processes_change_nothing(store, batches):
    plans = list(order(store, window=30).plans(0, 4))
    config = DataConfig(num_workers=2)
    on_demand = Batches(songs_of([store], DataConfig()), torch.zeros(1, 64), in_memory=False)
    ahead = list(load_batches(on_demand, plans, config, workers=True, pin=False))
    here = list(load_batches(on_demand, plans, config, workers=False, pin=False))
    assert [batch.plan for batch in ahead] == plans
    assert all(a.latents.equal(b.latents) for a, b in zip(ahead, here, strict=True))


def test_what_a_set_takes_is_known_without_reading_it(store):
    size = sum(4 * (song.frames * 64 + song.rows * 64) for song in store.songs)
    assert stored_bytes(songs_of([store], DataConfig()), 64) == size


def test_a_loader_process_names_the_file_that_is_not_finite(store):
    file = store.latents_file(store.songs[1])
    safetensors.torch.save_file({"latents": torch.full((50, 64), torch.nan)}, file)
    on_demand = Batches(songs_of([store], DataConfig()), torch.zeros(1, 64), in_memory=False)
    loaded = load_batches(on_demand, order(store).plans(0, 4), DataConfig(num_workers=1), workers=True, pin=False)
    with pytest.raises(StoreError) as error:
        list(loaded)
    assert str(error.value).startswith(f"'{file}' holds values that are not finite")
