"""`--tensor-format pt`: files for Side-Step beside the set they are made from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sidestep_core.configs import PreprocessConfig
from sidestep_core.events import Event, PreprocessFinished
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.preprocess.run import preprocess
from sidestep_core.store.index import open_store
from sidestep_core.store.legacy import measure
from sidestep_core.store.tensors import load_conditioning, load_latents


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> ModelFolder:
    """The tiny base model."""
    return resolve_model(tiny_checkpoint, "base")


def run(model: ModelFolder, folder: Path, **settings: Any) -> list[Event]:
    known: dict[str, Any] = {"tensor_format": "pt", "workers": 1}
    config = PreprocessConfig(audio_dir=folder / "songs", tensor_output=folder / "out", **(known | settings))
    return list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=lambda: False))


def finished(events: list[Event]) -> PreprocessFinished:
    assert isinstance(events[-1], PreprocessFinished)
    return events[-1]


@pytest.fixture(scope="module")
def made(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one song in a subfolder and its set; read only."""
    folder = tmp_path_factory.mktemp("pt")
    (folder / "songs" / "a").mkdir(parents=True)
    tone = np.sin(np.arange(9600)[:, None] / [20, 25]) / 2
    soundfile.write(folder / "songs" / "a" / "song.wav", tone, 48_000)
    (folder / "songs" / "a" / "song.txt").write_text("caption: one\ngenre: folk\nrepeat: 2\n", encoding="utf-8")
    run(model, folder)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_a_file_is_named_by_its_song(made: Path) -> None:
    assert [path.name for path in (made / "out").glob("*.pt")] == ["a__song.wav.pt"]


def test_pt_files_alone_hold_the_same_set(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "out" / "a__song.wav.pt", tmp_path)
    whole, alone = open_store(made / "out"), measure(open_store(tmp_path))
    first, second = whole.songs[0], alone.songs[0]
    assert (alone.kind, second.frames, second.rows, second.repeat) == ("pt", first.frames, first.rows, 2)
    assert torch.equal(load_latents(alone, second).mean, load_latents(whole, first).mean)
    assert torch.equal(load_conditioning(alone, second), load_conditioning(whole, first))


def test_a_file_describes_its_song(made: Path) -> None:
    metadata = torch.load(made / "out" / "a__song.wav.pt", weights_only=True)["metadata"]
    assert (metadata["filename"], metadata["caption"], metadata["genre"]) == ("song.wav", "one", "folk")
    assert metadata["is_instrumental"] is True


def test_the_context_is_the_models_silence(made: Path, model: ModelFolder) -> None:
    content = torch.load(made / "out" / "a__song.wav.pt", weights_only=True)
    silence = torch.load(model.path / "silence_latent.pt", weights_only=True)[0].T.float()
    assert torch.equal(content["context_latents"][:, :64], silence[: len(content["target_latents"])])


def test_a_rerun_writes_no_file(made: Path, model: ModelFolder) -> None:
    file = made / "out" / "a__song.wav.pt"
    before = file.stat().st_mtime_ns
    assert finished(run(model, made)).kept == 1
    assert file.stat().st_mtime_ns == before


def test_a_changed_caption_renews_the_file(copied: Path, model: ModelFolder) -> None:
    (copied / "songs" / "a" / "song.txt").write_text("caption: two\n", encoding="utf-8")
    # first without pt: the file is then older than the set
    run(model, copied, tensor_format="safetensors")
    assert finished(run(model, copied)).written == 1
    content = torch.load(copied / "out" / "a__song.wav.pt", weights_only=True)
    assert content["metadata"]["caption"] == "two"
    store = open_store(copied / "out")
    assert torch.equal(content["encoder_hidden_states"], load_conditioning(store, store.songs[0]))


def test_a_damaged_file_is_written_again(copied: Path, model: ModelFolder) -> None:
    file = copied / "out" / "a__song.wav.pt"
    file.write_bytes(file.read_bytes()[:100])
    assert finished(run(model, copied)).written == 1
    store = open_store(copied / "out")
    content = torch.load(file, weights_only=True)
    assert torch.equal(content["target_latents"], load_latents(store, store.songs[0]).mean)


def test_songs_that_would_share_a_file_are_told_apart(copied: Path, model: ModelFolder) -> None:
    shutil.copy(copied / "songs" / "a" / "song.wav", copied / "songs" / "a__song.wav")
    end = finished(run(model, copied))
    (rejected,) = end.rejected
    assert rejected.name == "a__song.wav"
    assert rejected.reason == "its file 'a__song.wav.pt' would be that of 'a/song.wav'; rename one"
    assert [song.name for song in open_store(copied / "out").songs] == ["a/song.wav"]


def test_the_file_of_a_song_that_is_gone_is_removed(copied: Path, model: ModelFolder) -> None:
    (copied / "songs" / "a").rename(copied / "songs" / "b")
    (copied / "out" / "from elsewhere.pt").write_bytes(b"")
    run(model, copied)
    assert sorted(path.name for path in (copied / "out").glob("*.pt")) == ["b__song.wav.pt", "from elsewhere.pt"]
