"""Tensor files: what is written is read, and what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from sidestep_core.errors import StoreError
from sidestep_core.store.index import StoredSong, TensorStore, conditioning_path, latents_path, write_index
from sidestep_core.store.info import store_info
from sidestep_core.store.tensors import (
    Latents,
    load_conditioning,
    load_latents,
    read_metadata,
    write_conditioning,
    write_latents,
)

LATENTS_KEY, CONDITIONING_KEY = "a" * 32, "b" * 32


def make_store(
    folder: Path, *, latent: str = "sample", dtype: torch.dtype = torch.float32, conditioning: str = "inference"
) -> TensorStore:
    std = torch.rand(50, 64).to(dtype) if latent == "resample" else None
    write_latents(
        latents_path(folder, LATENTS_KEY),
        Latents(torch.randn(50, 64).to(dtype), std),
        {"key": LATENTS_KEY, "latent": latent},
    )
    write_conditioning(
        conditioning_path(folder, CONDITIONING_KEY),
        torch.randn(30, 16).to(dtype),
        {"key": CONDITIONING_KEY, "conditioning": conditioning, "model": "id"},
    )
    song = StoredSong(
        name="a.wav",
        frames=50,
        rows=30,
        seconds=2.0,
        latents_key=LATENTS_KEY,
        conditioning_key=CONDITIONING_KEY,
        cut_lyrics=3,
    )
    twin = StoredSong(
        name="b.wav", frames=50, rows=30, seconds=2.0, latents_key=LATENTS_KEY, conditioning_key=CONDITIONING_KEY
    )
    store = TensorStore(
        path=folder, model="id", conditioning="inference", latent=latent, dtype="fp32", songs=(song, twin)
    )
    write_index(store)
    return store


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_come_back_in_the_dtype_they_had(tmp_path: Path, dtype: torch.dtype) -> None:
    store = make_store(tmp_path, dtype=dtype)
    latents = load_latents(store, store.songs[0])
    assert latents.mean.dtype == load_conditioning(store, store.songs[0]).dtype == dtype
    assert latents.std is None


def test_what_is_written_is_read_exactly(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    written = torch.randn(50, 64)
    write_latents(store.latents_file(store.songs[0]), Latents(written), {})
    assert torch.equal(load_latents(store, store.songs[0]).mean, written)


def test_a_set_to_be_drawn_anew_keeps_the_deviation(tmp_path: Path) -> None:
    store = make_store(tmp_path, latent="resample")
    std = load_latents(store, store.songs[0]).std
    assert std is not None
    assert std.shape == (50, 64)


def test_the_header_tells_what_made_the_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert read_metadata(store.latents_file(store.songs[0])) == {
        "format": "1",
        "key": LATENTS_KEY,
        "latent": "sample",
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_not_written(tmp_path: Path, bad: float) -> None:
    latents = torch.zeros(10, 64)
    latents[3, 3] = bad
    with pytest.raises(StoreError, match="latents of this song would not be finite"):
        write_latents(tmp_path / "x.safetensors", Latents(latents), {})
    with pytest.raises(StoreError, match="std of this song would not be finite"):
        write_latents(tmp_path / "x.safetensors", Latents(torch.zeros(10, 64), latents), {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_or_not_whole_has_no_metadata(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    file = store.latents_file(store.songs[0])
    file.write_bytes(file.read_bytes()[:-100])
    assert read_metadata(file) is None
    assert read_metadata(tmp_path / "nothing.safetensors") is None


def test_a_missing_tensor_file_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.latents_file(store.songs[0]).unlink()
    with pytest.raises(StoreError, match=f"{LATENTS_KEY}.safetensors' is missing"):
        load_latents(store, store.songs[0])


def test_a_truncated_tensor_file_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    file = store.conditioning_file(store.songs[0])
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StoreError, match=f"{CONDITIONING_KEY}.safetensors' is damaged"):
        load_conditioning(store, store.songs[0])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(2)}, "holds no latents"),
        ({"latents": torch.zeros(49, 64)}, r"shape \[49, 64\] where \[50, channels\]"),
        ({"latents": torch.zeros(50)}, r"shape \[50\]"),
        ({"latents": torch.full((50, 64), float("nan"))}, "not finite"),
    ],
)
def test_latents_that_are_not_what_the_index_says_are_named(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    store = make_store(tmp_path)
    safetensors.torch.save_file(tensors, store.latents_file(store.songs[0]))
    with pytest.raises(StoreError, match=message):
        load_latents(store, store.songs[0])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(2)}, "holds no conditioning"),
        ({"conditioning": torch.zeros(31, 16)}, r"shape \[31, 16\]"),
        ({"conditioning": torch.full((30, 16), float("inf"))}, "not finite"),
    ],
)
def test_conditioning_that_is_not_what_the_index_says_is_named(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    store = make_store(tmp_path)
    safetensors.torch.save_file(tensors, store.conditioning_file(store.songs[0]))
    with pytest.raises(StoreError, match=message):
        load_conditioning(store, store.songs[0])


def test_a_summary_counts_songs_seconds_and_bytes(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    info = store_info(store)
    files = [*(tmp_path / "latents").iterdir(), *(tmp_path / "conditioning").iterdir()]
    assert info.seconds == 4.0
    assert info.lengths == ((0.0, 10.0, 2),)
    assert info.bytes == sum(file.stat().st_size for file in files)
    assert (info.shared, info.cut_lyrics, info.missing) == (1, 1, ())


def test_a_summary_lists_missing_files(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.latents_file(store.songs[0]).unlink()
    assert store_info(store).missing == (store.latents_file(store.songs[0]),)


@pytest.mark.parametrize("latent", ["sample", "mean", "resample"])
def test_a_whole_set_verifies(tmp_path: Path, latent: str) -> None:
    assert store_info(make_store(tmp_path, latent=latent), verify=True).problems == ()


def test_verifying_names_every_bad_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    file = store.latents_file(store.songs[0])
    safetensors.torch.save_file({"latents": torch.full((50, 64), float("nan"))}, file)
    problems = store_info(store, verify=True).problems
    assert len(problems) == 2  # both songs use it
    assert str(file) in problems[0]


def test_verifying_finds_headers_that_contradict_the_index(tmp_path: Path) -> None:
    store = make_store(tmp_path, conditioning="side-step")
    problems = store_info(store, verify=True).problems
    assert "its header says conditioning 'side-step', the index 'inference'" in problems[0]


def test_verifying_finds_a_deviation_that_should_not_be_there(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    write_latents(
        store.latents_file(store.songs[0]),
        Latents(torch.zeros(50, 64), torch.ones(50, 64)),
        {"key": LATENTS_KEY, "latent": "sample"},
    )
    assert "does not hold what --latent sample writes" in store_info(store, verify=True).problems[0]
