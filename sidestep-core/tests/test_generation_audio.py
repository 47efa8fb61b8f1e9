"""Decoding in windows, and the files that come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sidestep_core.errors import GenerationError
from sidestep_core.generation import decoding
from sidestep_core.generation.audio_files import is_audio_of, write_audio
from sidestep_core.generation.decoding import OVERLAP, WINDOW, decode
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.model.load import load_vae

SMALL = 2 * OVERLAP + 16


@pytest.fixture
def model(tiny_checkpoint: Path) -> ModelFolder:
    return resolve_model(tiny_checkpoint, "base")


def latents(frames: int) -> torch.Tensor:
    return torch.randn(frames, 64, generator=torch.Generator().manual_seed(3))


def test_a_window_decoded_at_once_is_what_the_vae_makes_of_it(model: ModelFolder) -> None:
    with torch.no_grad():
        expected = load_vae(model).decode(latents(25).T[None]).sample[0].T
    (found,) = decode(model, [latents(25)], "cpu")
    assert found.shape == (48_000, 2)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.numpy())


def test_windows_are_joined_without_a_seam(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = decode(model, [latents(130)], "cpu")
    monkeypatch.setattr(decoding, "WINDOW", SMALL)
    (joined,) = decode(model, [latents(130)], "cpu")
    assert whole.shape == joined.shape
    assert np.abs(joined - whole).max() < 1e-5


def test_no_more_than_a_window_is_ever_decoded_at_once(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        vae = load_vae(*args, **kwargs)
        vae.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
        return vae

    monkeypatch.setattr(decoding, "load_vae", watched)
    decode(model, [latents(WINDOW + 100), latents(30)], "cpu")
    assert len(seen) > 2
    assert max(seen) <= WINDOW


def test_a_device_without_room_leaves_it_to_the_cpu(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def crowded(folder: ModelFolder, *, device: str) -> Any:
        places.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError("no room")
        return load_vae(folder, device=device)

    monkeypatch.setattr(decoding, "load_vae", crowded)
    (audio,) = decode(model, [latents(10)], "cuda:0")
    assert places == ["cuda:0", "cpu"]
    assert len(audio) == 10 * 1920


def test_a_cpu_without_room_says_so(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: ModelFolder, *, device: str) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(decoding, "load_vae", full)
    with pytest.raises(torch.OutOfMemoryError):
        decode(model, [latents(10)], "cpu")


def test_latents_that_are_not_finite_are_refused(model: ModelFolder) -> None:
    broken = latents(10)
    broken[3, 3] = torch.nan
    with pytest.raises(GenerationError, match="not finite"):
        decode(model, [broken], "cpu")


def noise(level: float, samples: int = 4800) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(0).uniform(-1, 1, (samples, 2)).astype(np.float32)
    return draw / np.abs(draw).max() * np.float32(level)


@pytest.mark.parametrize("level", [0.01, 0.5, 1.0])
def test_the_level_of_a_file_is_that_of_the_model(tmp_path: Path, level: float) -> None:
    audio = noise(level)
    write_audio(tmp_path / "a.flac", audio, {})
    found, rate = soundfile.read(tmp_path / "a.flac", dtype="float32")
    assert rate == 48_000
    assert np.abs(found - audio).max() <= 1 / 32768


def test_what_exceeds_full_scale_is_clipped_and_told(tmp_path: Path) -> None:
    audio = noise(1.5)
    write_audio(tmp_path / "a.flac", audio, {"prompt": "loud"})
    found, _ = soundfile.read(tmp_path / "a.flac", dtype="float32")
    quiet = np.abs(audio) < 1
    assert np.abs(found - audio)[quiet].max() <= 1 / 32768
    assert np.abs(found[~quiet]).min() > 0.9999
    assert json.loads((tmp_path / "a.json").read_text()) == {"prompt": "loud", "peak": 1.5}


def test_folders_are_made_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    write_audio(tmp_path / "some" / "where" / "a.flac", noise(0.5), {})
    assert sorted(path.name for path in (tmp_path / "some" / "where").iterdir()) == ["a.flac", "a.json"]


def test_a_file_is_known_by_what_it_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    assert not is_audio_of(path, {"seed": 1})
    write_audio(path, noise(0.5), {"seed": 1, "steps": 8})
    assert is_audio_of(path, {"seed": 1, "steps": 8})
    assert not is_audio_of(path, {"seed": 2, "steps": 8})
    path.with_suffix(".json").write_text("no json")
    assert not is_audio_of(path, {"seed": 1})


def test_a_description_without_its_audio_is_no_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", noise(0.5), {"seed": 1})
    (tmp_path / "a.flac").unlink()
    assert not is_audio_of(tmp_path / "a.flac", {"seed": 1})
