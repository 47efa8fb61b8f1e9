"""Preprocessing on real files: what is made, what a rerun keeps, what is rejected."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
import torch
from sidestep_core.configs import PreprocessConfig
from sidestep_core.errors import CheckpointError, ConfigError, DatasetError
from sidestep_core.events import Event, PreprocessFinished, SongFinished, StageStarted
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.preprocess.run import preprocess
from sidestep_core.store.index import INDEX, open_store
from sidestep_core.store.info import store_info
from sidestep_core.store.tensors import load_conditioning, load_latents, read_metadata

CLIP = 0.4  # seconds: the VAE takes two CPU seconds for each of them


def write_clip(
    path: Path, *, seconds: float = CLIP, rate: int = 48_000, channels: int = 2, pitch: float = 220.0
) -> Path:
    """Write a tone with a little noise; every pitch is another content."""
    time = np.arange(int(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * np.random.default_rng(0).standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, format="WAV", subtype="FLOAT")
    return path


def describe(audio: Path, **fields: str) -> None:
    """Write a sidecar."""
    lyrics = fields.pop("lyrics", "la la la")
    lines = [f"{key}: {value}" for key, value in fields.items()]
    audio.with_suffix(".txt").write_text("\n".join([*lines, "lyrics:", lyrics, ""]), encoding="utf-8")


def run(
    model: ModelFolder, songs: Path, out: Path, *, cancelled: Callable[[], bool] = lambda: False, **settings: Any
) -> list[Event]:
    """Run preprocessing to its end and return its events."""
    config = PreprocessConfig(audio_dir=songs, tensor_output=out, workers=1, **settings)
    return list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=cancelled))


def finished(events: list[Event]) -> PreprocessFinished:
    """Return the last event."""
    assert isinstance(events[-1], PreprocessFinished)
    return events[-1]


def stages(events: list[Event]) -> list[tuple[str, int]]:
    """Return the stages that had something to do, and for how many songs."""
    return [(event.stage, event.total) for event in events if isinstance(event, StageStarted)]


def times(folder: Path) -> dict[str, int]:
    """Return the time of change of every file."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@attrs.frozen
class Made:
    """A finished set of two songs with one base name."""

    songs: Path
    out: Path
    events: list[Event]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> ModelFolder:
    """The tiny base model."""
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture(scope="module")
def made(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two songs, preprocessed; read only."""
    folder = tmp_path_factory.mktemp("made")
    describe(write_clip(folder / "songs" / "a" / "song.wav", pitch=220), caption="first", bpm="90", key="A minor")
    describe(write_clip(folder / "songs" / "b" / "song.wav", pitch=330), caption="second", repeat="3", lyrics="oh oh")
    events = run(model, folder / "songs", folder / "out")
    return Made(folder / "songs", folder / "out", events)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """A copy of the finished set, to be changed; its audio is known by content."""
    shutil.copytree(made.songs, tmp_path / "songs")
    shutil.copytree(made.out, tmp_path / "out")
    return Made(tmp_path / "songs", tmp_path / "out", made.events)


def test_every_stage_reports_every_song(made: Made) -> None:
    assert stages(made.events) == [("scan", 2), ("audio", 2), ("text", 2), ("condition", 2)]
    for stage in ("scan", "audio", "text", "condition"):
        names = {e.name for e in made.events if isinstance(e, SongFinished) and e.stage == stage}
        assert names == {"a/song.wav", "b/song.wav"}
    end = finished(made.events)
    assert (end.written, end.kept, end.rejected, end.cut_lyrics) == (2, 0, (), 0)
    assert end.seconds == pytest.approx(2 * CLIP)


def test_two_files_with_one_base_name_are_two_songs(made: Made) -> None:
    first, second = open_store(made.out).songs
    assert (first.name, second.name) == ("a/song.wav", "b/song.wav")
    assert first.latents_key != second.latents_key
    assert "first" in first.prompt
    assert "second" in second.prompt


def test_a_finished_set_is_whole(made: Made) -> None:
    store = open_store(made.out)
    assert store_info(store, verify=True).problems == ()
    assert (store.variant, store.conditioning, store.latent, store.dtype) == ("base", "inference", "sample", "fp32")
    assert sorted(p.name for p in made.out.iterdir()) == ["conditioning", INDEX, "latents"]


def test_lengths_in_the_index_are_those_of_the_tensors(made: Made) -> None:
    store = open_store(made.out)
    for song in store.songs:
        assert load_latents(store, song).mean.shape == (song.frames, 64)
        assert len(load_conditioning(store, song)) == song.rows
        assert song.frames == int(CLIP * 25)
        assert song.seconds == pytest.approx(CLIP)


def test_the_prompt_carries_the_real_length_and_the_sidecar(made: Made) -> None:
    prompt = open_store(made.out).songs[0].prompt
    assert "- bpm: 90\n- timesignature: N/A\n- keyscale: A minor\n- duration: 0 seconds\n" in prompt


def test_repeats_reach_the_index(made: Made) -> None:
    assert [song.repeat for song in open_store(made.out).songs] == [1, 3]


def test_headers_tell_how_a_file_was_made(made: Made) -> None:
    store = open_store(made.out)
    song = store.songs[0]
    latents = read_metadata(store.latents_file(song)) or {}
    conditioning = read_metadata(store.conditioning_file(song)) or {}
    assert latents["source"] == "a/song.wav"
    assert json.loads(latents["loudness"])["method"] == "none"
    assert float(latents["seconds"]) == pytest.approx(CLIP)
    assert conditioning["model"] == store.model
    assert conditioning["prompt"] == song.prompt


def test_a_rerun_touches_nothing(made: Made, model: ModelFolder) -> None:
    before = times(made.out)
    events = run(model, made.songs, made.out)
    assert len(events) == 1
    assert (finished(events).written, finished(events).kept) == (0, 2)
    assert times(made.out) == before


def test_a_changed_caption_renews_that_songs_conditioning_alone(copied: Made, model: ModelFolder) -> None:
    before = times(copied.out)
    old = open_store(copied.out).songs
    describe(copied.songs / "a" / "song.wav", caption="changed", bpm="90", key="A minor")
    events = run(model, copied.songs, copied.out)
    assert stages(events) == [("scan", 2), ("text", 1), ("condition", 1)]
    assert (finished(events).written, finished(events).kept) == (1, 1)
    new = open_store(copied.out).songs
    assert [song.latents_key for song in new] == [song.latents_key for song in old]
    assert new[1] == attrs.evolve(old[1], source=new[1].source)
    after = times(copied.out)
    changed = {path for path in after if before.get(path) != after[path]}
    assert changed == {INDEX, f"conditioning/{new[0].conditioning_key}.safetensors"}
    assert f"conditioning/{old[0].conditioning_key}.safetensors" not in after


def test_a_renamed_file_renews_nothing(copied: Made, model: ModelFolder) -> None:
    before = times(copied.out)
    (copied.songs / "a").rename(copied.songs / "elsewhere")
    events = run(model, copied.songs, copied.out)
    assert stages(events) == [("scan", 2)]
    assert finished(events).kept == 2
    assert [song.name for song in open_store(copied.out).songs] == ["b/song.wav", "elsewhere/song.wav"]
    assert {path for path, time in times(copied.out).items() if before.get(path) != time} == {INDEX}


def test_a_touched_file_is_only_hashed_again(copied: Made, model: ModelFolder) -> None:
    run(model, copied.songs, copied.out)
    os.utime(copied.songs / "a" / "song.wav")
    assert stages(run(model, copied.songs, copied.out)) == [("scan", 1)]


def test_equal_audio_is_encoded_once(copied: Made, model: ModelFolder) -> None:
    shutil.copy(copied.songs / "a" / "song.wav", copied.songs / "twin.wav")
    events = run(model, copied.songs, copied.out)
    songs = {song.name: song for song in open_store(copied.out).songs}
    assert "audio" not in dict(stages(events))
    assert songs["twin.wav"].latents_key == songs["a/song.wav"].latents_key
    assert songs["twin.wav"].conditioning_key != songs["a/song.wav"].conditioning_key


def test_tensors_of_a_song_that_is_gone_are_removed(copied: Made, model: ModelFolder) -> None:
    stranger = copied.out / "latents" / "mine.safetensors"
    stranger.write_bytes(b"not sidestep's")
    shutil.rmtree(copied.songs / "b")
    run(model, copied.songs, copied.out)
    store = open_store(copied.out)
    assert [song.name for song in store.songs] == ["a/song.wav"]
    assert set((copied.out / "latents").iterdir()) == {store.latents_file(store.songs[0]), stranger}
    assert list((copied.out / "conditioning").iterdir()) == [store.conditioning_file(store.songs[0])]


def test_nothing_is_removed_when_a_song_was_rejected(copied: Made, model: ModelFolder) -> None:
    before = times(copied.out)
    (copied.songs / "b" / "song.wav").write_bytes(b"no longer audio")
    events = run(model, copied.songs, copied.out)
    assert [song.name for song in finished(events).rejected] == ["b/song.wav"]
    assert before.keys() <= times(copied.out).keys()


def test_other_tile_lengths_renew_nothing(copied: Made, model: ModelFolder) -> None:
    assert "audio" not in dict(stages(run(model, copied.songs, copied.out, tile_seconds=1.0)))


def test_a_damaged_tensor_file_is_made_again(copied: Made, model: ModelFolder) -> None:
    store = open_store(copied.out)
    good = load_latents(store, store.songs[0]).mean
    file = store.latents_file(store.songs[0])
    file.write_bytes(file.read_bytes()[:-10])
    events = run(model, copied.songs, copied.out)
    assert dict(stages(events))["audio"] == 1
    assert torch.equal(load_latents(store, store.songs[0]).mean, good)


def test_levelled_audio_is_other_audio_with_the_same_prompt(copied: Made, model: ModelFolder) -> None:
    old = open_store(copied.out).songs
    shutil.rmtree(copied.songs / "b")
    events = run(model, copied.songs, copied.out, normalize="peak", target_db=-6.0)
    assert dict(stages(events)) == {"scan": 1, "audio": 1}
    store = open_store(copied.out)
    assert store.songs[0].latents_key != old[0].latents_key
    assert store.songs[0].conditioning_key == old[0].conditioning_key
    loudness = json.loads((read_metadata(store.latents_file(store.songs[0])) or {})["loudness"])
    assert loudness["method"] == "peak"
    assert loudness["measured"] + loudness["gain_db"] == pytest.approx(-6.0)


def test_only_the_wanted_part_of_a_long_file_is_used(model: ModelFolder, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "songs" / "three hours.wav", seconds=2, rate=2_000, channels=1)
    header = bytearray(path.read_bytes())
    size = 3 * 3600 * 2_000 * 4
    start = header.index(b"data") + 4
    header[start : start + 4] = size.to_bytes(4, "little")
    header[4:8] = (start + 4 + size - 8).to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, start + 4 + size)  # silence to the end, without taking space on disk
    run(model, tmp_path / "songs", tmp_path / "out", max_duration=CLIP)
    assert open_store(tmp_path / "out").songs[0].seconds == CLIP


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sample_is_drawn_the_same_again_with_its_seed(model: ModelFolder, tmp_path: Path, seed: int) -> None:
    write_clip(tmp_path / "songs" / "a.wav", seconds=0.1)
    drawn = []
    for out, drawn_seed in (("one", 1), ("two", seed)):
        run(model, tmp_path / "songs", tmp_path / out, seed=drawn_seed)
        store = open_store(tmp_path / out)
        drawn.append(load_latents(store, store.songs[0]).mean)
    assert torch.equal(*drawn) == (seed == 1)


def test_to_draw_anew_mean_and_deviation_are_kept(model: ModelFolder, tmp_path: Path) -> None:
    write_clip(tmp_path / "songs" / "a.wav", seconds=0.1)
    kept = {}
    for latent in ("mean", "resample"):
        run(model, tmp_path / "songs", tmp_path / latent, latent=latent)
        store = open_store(tmp_path / latent)
        kept[latent] = load_latents(store, store.songs[0])
    assert kept["mean"].std is None
    assert torch.equal(kept["mean"].mean, kept["resample"].mean)
    std = kept["resample"].std
    assert std is not None
    assert (std > 0).all()


def test_the_seed_matters_only_where_something_is_drawn(model: ModelFolder, tmp_path: Path) -> None:
    write_clip(tmp_path / "songs" / "a.wav", seconds=0.1)
    run(model, tmp_path / "songs", tmp_path / "out", latent="mean", seed=1)
    assert stages(run(model, tmp_path / "songs", tmp_path / "out", latent="mean", seed=2)) == []


def test_a_folder_without_audio_is_an_error(model: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    with pytest.raises(DatasetError, match="no audio"):
        run(model, tmp_path / "songs", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_songs_and_output_must_be_named(model: ModelFolder, tmp_path: Path) -> None:
    for config, message in (
        (PreprocessConfig(audio_dir=tmp_path), "give --tensor-output"),
        (PreprocessConfig(tensor_output=tmp_path), "give --audio-dir or --dataset-json"),
    ):
        with pytest.raises(ConfigError, match=message):
            list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=lambda: False))


def test_pt_files_cannot_hold_a_distribution(model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot hold --latent resample; there is sample and mean"):
        run(model, tmp_path, tmp_path / "out", tensor_format="pt", latent="resample")


def test_a_checkpoint_without_vae_is_an_error(model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights .* in '.*vae'"):
        run(attrs.evolve(model, root=tmp_path), tmp_path, tmp_path / "out")


def test_a_dataset_file_names_songs_and_what_is_missing_is_told(made: Made, model: ModelFolder, tmp_path: Path) -> None:
    samples = [{"audio_path": str(made.songs / "a" / "song.wav"), "caption": "from a file"}, {"audio_path": "no.wav"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"samples": samples}), encoding="utf-8")
    shutil.copytree(made.out, tmp_path / "out")
    config = PreprocessConfig(dataset_json=tmp_path / "dataset.json", tensor_output=tmp_path / "out")
    events = list(preprocess(config, model, device="cpu", dtype="fp32", cancelled=lambda: False))
    assert [r.reason for r in finished(events).rejected] == [
        "samples[1]: no file 'no.wav' and no 'no.wav' in " + repr(str(tmp_path))
    ]
    assert "audio" not in dict(stages(events))
    assert "from a file" in open_store(tmp_path / "out").songs[0].prompt
