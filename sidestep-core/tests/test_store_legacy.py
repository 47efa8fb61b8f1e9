"""`.pt` sets in the layout of Side-Step and ACE-Step."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from sidestep_core.errors import StoreError
from sidestep_core.store.index import open_store
from sidestep_core.store.info import store_info
from sidestep_core.store.legacy import measure, read_keys, write_pt
from sidestep_core.store.tensors import load_conditioning, load_latents


def side_step_file(path: Path, *, frames: int = 50, rows: int = 12, padded: int = 20, **changes: Any) -> dict[str, Any]:
    """Write what Side-Step's preprocessing writes: padded conditioning, masks in the compute dtype."""
    mask = torch.zeros(padded)
    mask[:rows] = 1
    content = {
        "target_latents": torch.randn(frames, 64),
        "attention_mask": torch.ones(frames),
        "encoder_hidden_states": torch.randn(padded, 16),
        "encoder_attention_mask": mask,
        "context_latents": torch.randn(frames, 128),
        "metadata": {"filename": "a.wav", "caption": "a song", "duration": 2, "bpm": None, "repeat": 3},
    } | changes
    torch.save(content, path)
    return content


def test_latents_of_side_step_are_read_as_they_are(tmp_path: Path) -> None:
    content = side_step_file(tmp_path / "a.pt")
    store = open_store(tmp_path)
    latents = load_latents(store, store.songs[0])
    assert torch.equal(latents.mean, content["target_latents"])
    assert latents.std is None


def test_padded_rows_of_side_step_are_dropped(tmp_path: Path) -> None:
    content = side_step_file(tmp_path / "a.pt", rows=12, padded=20)
    store = open_store(tmp_path)
    assert torch.equal(load_conditioning(store, store.songs[0]), content["encoder_hidden_states"][:12])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16])
def test_a_mask_may_have_any_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    mask = torch.tensor([1, 1, 0]).to(dtype)
    side_step_file(tmp_path / "a.pt", encoder_hidden_states=torch.randn(3, 16), encoder_attention_mask=mask)
    store = open_store(tmp_path)
    assert load_conditioning(store, store.songs[0]).shape == (2, 16)


def test_padded_frames_are_dropped(tmp_path: Path) -> None:
    side_step_file(tmp_path / "a.pt", attention_mask=torch.tensor([1.0] * 40 + [0.0] * 10))
    store = open_store(tmp_path)
    assert load_latents(store, store.songs[0]).mean.shape == (40, 64)


def test_measuring_reads_lengths_and_repeats(tmp_path: Path) -> None:
    side_step_file(tmp_path / "a.pt", frames=50, rows=12)
    side_step_file(tmp_path / "b.pt", frames=75, rows=7, metadata={})
    songs = measure(open_store(tmp_path)).songs
    assert [(s.name, s.frames, s.rows, s.seconds, s.repeat) for s in songs] == [
        ("a", 50, 12, 2.0, 3),
        ("b", 75, 7, 3.0, 1),
    ]


def test_measured_songs_load_like_others(tmp_path: Path) -> None:
    side_step_file(tmp_path / "a.pt")
    store = measure(open_store(tmp_path))
    assert load_latents(store, store.songs[0]).mean.shape == (50, 64)
    assert load_conditioning(store, store.songs[0]).shape == (12, 16)


def test_what_is_written_has_side_steps_layout(tmp_path: Path) -> None:
    latents, conditioning, silence = torch.randn(50, 64), torch.randn(12, 16), torch.randn(30, 64)
    write_pt(tmp_path / "a.pt", latents, conditioning, silence, {"filename": "a.wav"})
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert {name: tuple(value.shape) for name, value in content.items() if name != "metadata"} == {
        "target_latents": (50, 64),
        "attention_mask": (50,),
        "encoder_hidden_states": (12, 16),
        "encoder_attention_mask": (12,),
        "context_latents": (50, 128),
    }
    assert content["attention_mask"].min() == content["encoder_attention_mask"].min() == 1


def test_the_context_is_silence_from_its_start_and_a_mask_of_ones(tmp_path: Path) -> None:
    silence = torch.randn(30, 64)
    write_pt(tmp_path / "a.pt", torch.randn(50, 64), torch.randn(12, 16), silence, {})
    context = torch.load(tmp_path / "a.pt", weights_only=True)["context_latents"]
    assert torch.equal(context[:, :64], torch.cat([silence, silence[:20]]))
    assert (context[:, 64:] == 1).all()


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    latents, conditioning = torch.randn(50, 64).bfloat16(), torch.randn(12, 16).bfloat16()
    write_pt(tmp_path / "a.wav.pt", latents, conditioning, torch.randn(60, 64), {})
    store = open_store(tmp_path)
    assert torch.equal(load_latents(store, store.songs[0]).mean, latents)
    assert torch.equal(load_conditioning(store, store.songs[0]), conditioning)


def test_keys_are_read_only_where_they_were_written(tmp_path: Path) -> None:
    keys = {"latents": "a" * 32, "conditioning": "b" * 32}
    write_pt(tmp_path / "a.pt", torch.zeros(4, 64), torch.zeros(2, 16), torch.zeros(4, 64), {"keys": keys})
    side_step_file(tmp_path / "b.pt")
    assert read_keys(tmp_path / "a.pt") == ("a" * 32, "b" * 32)
    assert read_keys(tmp_path / "b.pt") is None
    assert read_keys(tmp_path / "c.pt") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_latents": None}, "has no target_latents; there is target_latents, attention_mask"),
        ({"attention_mask": torch.ones(3)}, "attention_mask does not fit target_latents"),
        ({"target_latents": torch.full((50, 64), float("nan"))}, "not finite"),
        ({"target_latents": torch.zeros(0, 64), "attention_mask": torch.zeros(0)}, r"shape \[0, 64\]"),
    ],
)
def test_a_pt_file_that_is_not_what_it_should_be_is_named(tmp_path: Path, changes: Any, message: str) -> None:
    side_step_file(tmp_path / "a.pt", **changes)
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match=message) as caught:
        load_latents(store, store.songs[0])
    assert str(tmp_path / "a.pt") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half"])
def test_a_pt_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match=r"a\.pt' is not a whole \.pt file of tensors") as caught:
        load_latents(store, store.songs[0])
    assert "\n" not in str(caught.value)


def test_a_truncated_pt_file_is_named(tmp_path: Path) -> None:
    side_step_file(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:2000])
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="not a whole"):
        load_latents(store, store.songs[0])


def test_a_file_listed_but_gone_is_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"samples": ["gone.pt"]}', encoding="utf-8")
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match=r"gone\.pt' is missing"):
        load_latents(store, store.songs[0])


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "save", [lambda value, path: torch.save(value, path), lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_code_in_a_pt_file_is_not_run(tmp_path: Path, save: Any) -> None:
    proof = tmp_path / "proof"
    save({"target_latents": _Evil(proof)}, tmp_path / "a.pt")
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="not a whole"):
        load_latents(store, store.songs[0])
    assert not proof.exists()


def test_a_pt_file_without_a_dictionary_is_named(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="holds a Tensor instead of named tensors"):
        load_latents(store, store.songs[0])


def test_a_pt_set_is_summarised_and_verified(tmp_path: Path) -> None:
    side_step_file(tmp_path / "a.pt", frames=50)
    side_step_file(tmp_path / "b.pt", frames=500)
    info = store_info(open_store(tmp_path), verify=True)
    assert info.seconds == 22.0
    assert info.lengths == ((0.0, 10.0, 1), (10.0, 30.0, 1))
    assert info.problems == ()


def test_verifying_a_pt_set_names_the_bad_file(tmp_path: Path) -> None:
    side_step_file(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"nothing")
    problems = store_info(open_store(tmp_path), verify=True).problems
    assert len(problems) == 1
    assert str(tmp_path / "b.pt") in problems[0]
