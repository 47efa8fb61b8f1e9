"""What the keys of tensors depend on, and how settings and songs make prompts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.configs import PreprocessConfig
from sidestep_core.errors import CheckpointError
from sidestep_core.model.layout import resolve_model
from sidestep_core.preprocess.plan import (
    Entry,
    Job,
    fingerprint,
    make_entries,
    make_job,
    set_latents_key,
    set_prompts,
    set_samples,
)
from sidestep_core.songs import Song, SongSet


@pytest.fixture(scope="module")
def job(tiny_checkpoint: Path) -> Job:
    """A run on the tiny model."""
    config = PreprocessConfig(audio_dir=Path("songs"), tensor_output=Path("out"))
    model = resolve_model(tiny_checkpoint, "base")
    return make_job(config, model, device="cpu", dtype="fp32", cancelled=lambda: False)


def song(name: str = "a.wav", **fields: Any) -> Song:
    return Song(path=Path(name), name=name, caption="caption", **fields)


def entry(**fields: Any) -> Entry:
    return Entry(song=song(), tag="", tag_position="prepend", use_genre=False, hash="0" * 32, **fields)


def latents_key(job: Job, **settings: Any) -> str:
    made = entry()
    set_latents_key(attrs.evolve(job, config=attrs.evolve(job.config, **settings)), made)
    return made.latents_key


def conditioning_key(job: Job, made: Entry | None = None) -> str:
    made = made or entry()
    set_prompts(job, made)
    return made.conditioning_key


@pytest.mark.parametrize(
    "settings",
    [
        {"normalize": "peak"},
        {"normalize": "lufs"},
        {"max_duration": 30.0},
        {"latent": "mean"},
        {"latent": "resample"},
        {"seed": 1},
    ],
)
def test_what_changes_latents_changes_their_key(job: Job, settings: dict[str, Any]) -> None:
    assert latents_key(job, **settings) != latents_key(job)


@pytest.mark.parametrize(
    "settings",
    [
        {"tile_seconds": 10.0},
        {"workers": 3},
        {"target_db": -3.0},
        {"target_lufs": -20.0},
        {"custom_tag": "tag"},
        {"conditioning": "side-step"},
        {"tensor_format": "pt"},
    ],
)
def test_what_leaves_latents_alone_leaves_their_key(job: Job, settings: dict[str, Any]) -> None:
    assert latents_key(job, **settings) == latents_key(job)


def test_a_target_counts_where_it_is_aimed_for(job: Job) -> None:
    assert latents_key(job, normalize="peak", target_db=-3.0) != latents_key(job, normalize="peak")
    assert latents_key(job, normalize="lufs", target_lufs=-20.0) != latents_key(job, normalize="lufs")
    assert latents_key(job, normalize="peak", target_lufs=-20.0) == latents_key(job, normalize="peak")


@pytest.mark.parametrize("latent", ["mean", "resample"])
def test_the_seed_counts_only_where_something_is_drawn(job: Job, latent: str) -> None:
    assert latents_key(job, latent=latent, seed=1) == latents_key(job, latent=latent)


@pytest.mark.parametrize("change", [{"vae_id": "other"}, {"dtype": "bf16"}])
def test_latents_belong_to_their_vae_and_dtype(job: Job, change: dict[str, Any]) -> None:
    assert latents_key(attrs.evolve(job, **change)) != latents_key(job)


@pytest.mark.parametrize("change", [{"model_id": "other"}, {"text_id": "other"}])
def test_latents_are_shared_by_models_of_one_vae(job: Job, change: dict[str, Any]) -> None:
    assert latents_key(attrs.evolve(job, **change)) == latents_key(job)


@pytest.mark.parametrize("change", [{"model_id": "other"}, {"text_id": "other"}, {"dtype": "bf16"}])
def test_conditioning_belongs_to_its_model(job: Job, change: dict[str, Any]) -> None:
    assert conditioning_key(attrs.evolve(job, **change)) != conditioning_key(job)


def test_conditioning_is_shared_by_equal_texts(job: Job) -> None:
    other = attrs.evolve(entry(), song=song("b.wav"), hash="1" * 32)
    assert conditioning_key(job, other) == conditioning_key(job)
    assert conditioning_key(attrs.evolve(job, vae_id="other")) == conditioning_key(job)


def test_the_mode_is_part_of_the_conditioning(job: Job) -> None:
    side_step = attrs.evolve(job, config=attrs.evolve(job.config, conditioning="side-step"))
    assert conditioning_key(side_step) != conditioning_key(job)


def test_the_length_that_was_encoded_reaches_the_prompt(job: Job) -> None:
    made = attrs.evolve(entry(), song=song(duration=300.0))
    set_samples(made, 48_000 * 12 + 40_000, 320)
    set_prompts(job, made)
    assert "- duration: 12 seconds\n" in made.prompt


def test_lyrics_follow_the_mode(job: Job) -> None:
    made = attrs.evolve(entry(), song=song(lyrics="oh", language="de", instrumental=False))
    set_prompts(job, made)
    assert made.lyrics == "# Languages\nde\n\n# Lyric\noh<|endoftext|>"
    set_prompts(attrs.evolve(job, config=attrs.evolve(job.config, conditioning="side-step")), made)
    assert made.lyrics == "oh"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "set tag, caption"),
        ({"custom_tag": "given"}, "given, caption"),
        ({"tag_position": "append"}, "caption, set tag"),
        ({"custom_tag": "given", "tag_position": "replace"}, "given\n"),
    ],
)
def test_given_tags_win_over_the_sets(job: Job, settings: dict[str, Any], expected: str) -> None:
    songs = SongSet(songs=(song(),), name="set", custom_tag="set tag")
    (made,) = make_entries(songs, attrs.evolve(job.config, **settings))
    set_prompts(job, made)
    assert f"# Caption\n{expected}" in made.prompt


def test_a_songs_own_tag_wins_over_all(job: Job) -> None:
    songs = SongSet(songs=(song(custom_tag="own"),), name="set", custom_tag="set tag")
    (made,) = make_entries(songs, attrs.evolve(job.config, custom_tag="given"))
    set_prompts(job, made)
    assert "# Caption\nown, caption" in made.prompt


@pytest.mark.parametrize(("given", "expected"), [(None, 50), (0, 0), (100, 100)])
def test_a_given_genre_ratio_wins_over_the_sets(job: Job, given: int | None, expected: int) -> None:
    songs = SongSet(songs=tuple(song(f"{n}.wav") for n in range(100)), name="set", genre_ratio=50)
    entries = make_entries(songs, attrs.evolve(job.config, genre_ratio=given))
    assert sum(made.use_genre for made in entries) == expected


def test_a_fingerprint_follows_weights_and_config(tiny_checkpoint: Path, tmp_path: Path) -> None:
    vae = shutil.copytree(tiny_checkpoint / "vae", tmp_path / "vae")
    stem = "diffusion_pytorch_model"
    original = fingerprint(tiny_checkpoint / "vae", stem)
    assert fingerprint(vae, stem) == original
    weights = vae / f"{stem}.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = fingerprint(vae, stem)
    (vae / "config.json").write_text("{}", encoding="utf-8")
    assert len({original, changed, fingerprint(vae, stem)}) == 3


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights \(model.safetensors\) in '.*'; see 'sidestep models list'"):
        fingerprint(tmp_path, "model")


def test_a_missing_config_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    vae = shutil.copytree(tiny_checkpoint / "vae", tmp_path / "vae")
    (vae / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json' cannot be read: No such file"):
        fingerprint(vae, "diffusion_pytorch_model")
