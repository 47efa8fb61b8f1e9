"""What a tensor folder says of itself, and how it stands up to damage and to indexes that nobody should trust."""

from __future__ import annotations

import json
import math

import attrs
import pytest
import safetensors.torch
import torch
from sidestep_core.errors import StoreError
from sidestep_core.model.layout import resolve_model
from sidestep_core.store.index import (
    StoredSong,
    TensorStore,
    conditioning_path,
    latents_path,
    open_store,
    write_index,
)
from sidestep_core.store.info import LENGTH_EDGES, store_info
from sidestep_core.store.legacy import write_pt
from sidestep_core.store.tensors import Latents, load_conditioning, load_latents, write_conditioning, write_latents
from sidestep_core.testing.tiny_run import write_noise

FRAMES, ROWS = 50, 6


def key(number):
    return f"{number:032x}"


def song(number, **fields):
    known = {"frames": FRAMES, "rows": ROWS, "seconds": 2.0}
    keys = {"latents_key": key(2 * number), "conditioning_key": key(2 * number + 1)}
    return StoredSong(name=f"{number}.wav", **{**known, **keys, **fields})


def store_of(folder, *songs):
    """Write a set of songs with tensors as preprocessing leaves them."""
    facts = {"model": "id", "conditioning": "inference", "latent": "sample", "dtype": "fp32"}
    store = TensorStore(path=folder, songs=songs, **facts)
    for one in songs:
        header = {"key": one.latents_key, "latent": "sample"}
        write_latents(latents_path(folder, one.latents_key), Latents(torch.randn(FRAMES, 64)), header)
        header = {"key": one.conditioning_key, "conditioning": "inference", "model": "id"}
        write_conditioning(conditioning_path(folder, one.conditioning_key), torch.randn(ROWS, 16), header)
    write_index(store)
    return open_store(folder)


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path, song(0), song(1), song(2))


def problems(store):
    return store_info(store, verify=True).problems


def rewrite(file, tensors):
    """Replace the tensors of a file and keep its header."""
    with safetensors.safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    safetensors.torch.save_file(tensors, file, metadata=header)


# Counting


def lengths(folder, *seconds):
    songs = tuple(song(number, seconds=length) for number, length in enumerate(seconds))
    return store_info(TensorStore(path=folder, songs=songs)).lengths


@pytest.mark.parametrize("edge", LENGTH_EDGES[1:-1])
def test_a_song_on_an_edge_belongs_to_the_longer_bin(tmp_path, edge):
    shorter, longer = lengths(tmp_path, math.nextafter(edge, 0), edge)
    assert (shorter[1], longer[0]) == (edge, edge)


def test_every_song_is_in_one_bin(tmp_path):
    counted = lengths(tmp_path, 0.0, 0.1, 9.9, 10.0, 59.0, 61.0, 7200.0)
    assert counted == ((0.0, 10.0, 3), (10.0, 30.0, 1), (30.0, 60.0, 1), (60.0, 120.0, 1), (600.0, math.inf, 1))


def test_repeats_make_a_set_no_longer(tmp_path):
    info = store_info(TensorStore(path=tmp_path, songs=(song(0, repeat=9), song(1, repeat=0))))
    assert info.seconds == 4.0


def test_latents_of_the_same_audio_are_counted_once(tmp_path):
    twin = song(1, latents_key=key(0))
    info = store_info(store_of(tmp_path, song(0), twin, song(2)))
    files = [file for folder in ("latents", "conditioning") for file in (tmp_path / folder).iterdir()]
    assert (info.shared, len(files)) == (1, 5)
    assert info.bytes == sum(file.stat().st_size for file in files)


def test_files_that_belong_to_nobody_are_passed_over(store, tmp_path):
    before = store_info(store, verify=True)
    (tmp_path / "latents" / "notes.txt").write_bytes(b"x" * 100)
    (tmp_path / "latents" / f"{key(99)}.safetensors").write_bytes(b"left over")
    (tmp_path / "stray.pt").write_bytes(b"not of this set")
    (tmp_path / ".work").mkdir()
    assert store_info(open_store(tmp_path), verify=True) == before
    assert before.problems == ()


# Damage


def test_a_missing_file_is_found_with_its_name(store):
    file = store.conditioning_file(store.songs[1])
    file.unlink()
    assert store_info(store).missing == (file,)
    assert problems(store) == (f"'{file}' is missing; run 'sidestep preprocess' again",)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_found_with_its_name(store, keep):
    file = store.latents_file(store.songs[1])
    file.write_bytes(file.read_bytes()[:keep])
    (problem,) = problems(store)
    assert problem.startswith(f"'{file}' is damaged (")
    assert store_info(store).missing == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found(store, value):
    file = store.latents_file(store.songs[2])
    latents = load_latents(store, store.songs[2]).mean
    latents[-1, -1] = value
    rewrite(file, {"latents": latents})
    assert problems(store) == (
        f"'{file}' holds values that are not finite; delete it and run 'sidestep preprocess' again",
    )


@pytest.mark.parametrize("shape", [(FRAMES - 1, 64), (FRAMES + 1, 64), (FRAMES, 1, 64), (FRAMES,), (FRAMES, 0)])
def test_latents_of_another_shape_are_found(store, shape):
    file = store.latents_file(store.songs[0])
    rewrite(file, {"latents": torch.zeros(shape)})
    (problem,) = problems(store)
    assert problem == f"'{file}' holds a tensor of shape {list(shape)} where [{FRAMES}, channels] is expected"


def test_conditioning_of_another_length_is_found(store):
    file = store.conditioning_file(store.songs[0])
    rewrite(file, {"conditioning": torch.zeros(ROWS + 2, 16)})
    (problem,) = problems(store)
    assert f"'{file}' holds a tensor of shape [{ROWS + 2}, 16]" in problem


def test_a_file_of_other_tensors_is_found(store):
    file = store.latents_file(store.songs[0])
    rewrite(file, {"weights": torch.zeros(FRAMES, 64)})
    assert problems(store) == (f"'{file}' holds no latents",)


def test_a_file_under_the_name_of_another_is_found_by_its_header(store):
    right, wrong = (store.latents_file(store.songs[i]) for i in (0, 1))
    wrong.write_bytes(right.read_bytes())
    assert problems(store) == (f"'{wrong}': its header says key {key(0)!r}, the index {key(2)!r}",)


def test_a_file_without_a_header_is_found(store):
    file = store.conditioning_file(store.songs[0])
    safetensors.torch.save_file({"conditioning": torch.zeros(ROWS, 16)}, file)
    assert [line.partition("says ")[2] for line in problems(store)] == [
        f"key None, the index {key(1)!r}",
        "conditioning None, the index 'inference'",
        "model None, the index 'id'",
    ]


def test_conditioning_of_another_model_is_found(store):
    other = attrs.evolve(store, model="another")
    found = problems(other)
    assert len(found) == 3
    assert all("its header says model 'id', the index 'another'" in line for line in found)


def test_every_damaged_song_is_found_and_not_only_the_first(store):
    store.latents_file(store.songs[0]).unlink()
    store.latents_file(store.songs[1]).write_bytes(b"")
    rewrite(store.conditioning_file(store.songs[2]), {"conditioning": torch.full((ROWS, 16), math.nan)})
    assert [line.partition("' ")[2].partition(";")[0].partition(" (")[0] for line in problems(store)] == [
        "is missing",
        "is damaged",
        "holds values that are not finite",
    ]


def test_a_set_of_noise_verifies_but_for_what_its_headers_leave_out(tmp_path, tiny_checkpoint):
    noise = write_noise(tmp_path, resolve_model(tiny_checkpoint, "base"), frames=[20, 30])
    assert {line.partition("says ")[2].split(" ")[0] for line in problems(noise)} == {"latent", "conditioning", "model"}


# Indexes that nobody should trust


def with_index(store, change):
    """Change the parsed index and write it back."""
    file = store.path / "index.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")
    return store.path


@pytest.mark.parametrize("version", [0, 2, 99, 10**30, "1", None, [1], {"major": 1}], ids=repr)
def test_an_index_of_another_version_is_refused_before_it_is_read(store, version):
    path = with_index(store, lambda data: data.update(format=version, songs="what a later version may have here"))
    with pytest.raises(StoreError, match=r"has format .*; this version reads format 1"):
        open_store(path)


@pytest.mark.parametrize("field", ["frames", "rows", "repeat", "cut_lyrics"])
@pytest.mark.parametrize("value", [-1, -(10**30), 2.5, "50", None, [50], math.nan, math.inf], ids=repr)
def test_a_count_that_is_none_is_refused(store, field, value):
    path = with_index(store, lambda data: data["songs"][0].update({field: value}))
    with pytest.raises(StoreError, match=r"index\.json' is damaged"):
        open_store(path)


@pytest.mark.parametrize("field", ["latents_key", "conditioning_key"])
@pytest.mark.parametrize(
    "value",
    ["../../../etc/passwd", "/etc/passwd", "a" * 31 + "/", "A" * 32, "a" * 33, "0" * 31 + "\n", "..", "\x00" * 32, 7],
    ids=repr,
)
def test_a_key_that_is_no_hash_is_refused(store, field, value):
    path = with_index(store, lambda data: data["songs"][0].update({field: value}))
    with pytest.raises(StoreError, match=r"index\.json' is damaged"):
        open_store(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(songs={"0.wav": {}}),
        lambda data: data.update(songs=[None]),
        lambda data: data.update(songs=None),
        lambda data: data["songs"][0].pop("name"),
        lambda data: data["songs"][0].update(name=["a.wav"]),
        lambda data: data["songs"][0].update(seconds="2"),
        lambda data: data.update(sources=[]),
        lambda data: data.update(sources={"/a.wav": {"size": -1, "mtime_ns": 0, "hash": key(0)}}),
        lambda data: data.update(sources={"/a.wav": {"size": 1, "mtime_ns": 0, "hash": "../x"}}),
        lambda data: data.update(model=None),
        lambda data: data.pop("dtype"),
    ],
    ids=range(11),
)
def test_an_index_of_another_shape_is_refused_in_one_line(store, change):
    with pytest.raises(StoreError, match=r"index\.json' is damaged \(.*\); delete it") as caught:
        open_store(with_index(store, change))
    assert "\n" not in str(caught.value)


def test_a_number_too_long_to_read_is_damage(store):
    file = store.path / "index.json"
    text = file.read_text(encoding="utf-8").replace('"frames": 50', f'"frames": {"9" * 5000}')
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match="is damaged"):
        open_store(store.path)


def test_a_huge_length_is_found_when_the_file_is_read(store):
    path = with_index(store, lambda data: data["songs"][0].update(frames=10**15))
    opened = open_store(path)
    with pytest.raises(StoreError, match=f"shape \\[{FRAMES}, 64\\] where \\[{10**15}, channels\\] is expected"):
        load_latents(opened, opened.songs[0])


def test_an_index_that_is_a_folder_is_damage(store):
    (store.path / "index.json").unlink()
    (store.path / "index.json").mkdir()
    with pytest.raises(StoreError, match="is damaged"):
        open_store(store.path)


# Sets of .pt files


def write_set(folder, *names, frames=FRAMES):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_pt(folder / name, torch.randn(frames, 64), torch.randn(ROWS, 16), torch.randn(30, 64), {"repeat": 2})


@pytest.mark.parametrize(
    "listed", ["a.pt", ".\\a.pt", "C:\\Users\\me\\tensors\\a.pt", "\\\\server\\share\\a.pt", "/mnt/d/a.pt", "./a.pt"]
)
def test_a_set_made_elsewhere_trains_here(tmp_path, listed):
    write_set(tmp_path, "a.pt")
    (tmp_path / "manifest.json").write_text(json.dumps({"samples": [listed]}), encoding="utf-8")
    store = open_store(tmp_path)
    assert load_latents(store, store.songs[0]).mean.shape == (FRAMES, 64)
    assert load_conditioning(store, store.songs[0]).shape == (ROWS, 16)


def test_the_manifest_decides_and_not_what_lies_there(tmp_path):
    write_set(tmp_path, "a.pt", "sub/b.pt", "old.pt")
    (tmp_path / "manifest.json").write_text(json.dumps({"samples": ["sub\\b.pt", "a.pt"]}), encoding="utf-8")
    info = store_info(open_store(tmp_path))
    assert [song.name for song in info.store.songs] == ["sub/b", "a"]
    assert (info.seconds, info.shared, info.missing) == (4.0, 0, ())


def test_a_file_of_the_manifest_that_is_gone_is_named(tmp_path):
    write_set(tmp_path, "a.pt")
    (tmp_path / "manifest.json").write_text(json.dumps({"samples": ["a.pt", "gone.pt"]}), encoding="utf-8")
    assert problems(open_store(tmp_path)) == (f"'{tmp_path / 'gone.pt'}' is missing",)


def test_verifying_a_pt_set_names_each_bad_file(tmp_path):
    write_set(tmp_path, "a.pt", "b.pt", "c.pt")
    (tmp_path / "a.pt").write_bytes(b"")
    latents = torch.full((FRAMES, 64), math.nan)
    torch.save({"target_latents": latents, "encoder_hidden_states": torch.zeros(ROWS, 16)}, tmp_path / "b.pt")
    found = problems(open_store(tmp_path))
    assert [line.partition("' ")[0] for line in found] == [f"'{tmp_path / name}" for name in ("a.pt", "b.pt")]


def test_a_damaged_pt_set_cannot_be_measured(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="is not a whole"):
        store_info(open_store(tmp_path))


def test_a_repeat_that_is_no_count_is_once(tmp_path):
    for name, repeat in (("a", 0), ("b", -3), ("c", "4"), ("d", None), ("e", 5)):
        content = {"target_latents": torch.zeros(4, 64), "encoder_hidden_states": torch.zeros(2, 16)}
        torch.save({**content, "metadata": {"repeat": repeat}}, tmp_path / f"{name}.pt")
    assert [song.repeat for song in store_info(open_store(tmp_path)).store.songs] == [1, 1, 1, 1, 5]
