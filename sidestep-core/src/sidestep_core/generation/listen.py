"""A prompt turned into audio outside training, with or without an adapter: one model in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.configs import Conditioning, SoundConfig
from sidestep_core.device import DTYPES, Resolved
from sidestep_core.errors import ConfigError
from sidestep_core.events import Event, Notice, PreviewMade, StageStarted
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import SavedAdapter, read_adapter
from sidestep_core.generation.adapted import add_deltas
from sidestep_core.generation.audio_files import write_audio
from sidestep_core.generation.conditioning import Texts, encode_prompt, make_texts
from sidestep_core.generation.decoding import decode
from sidestep_core.generation.samplers import Sampler, choose_sampler
from sidestep_core.generation.sampling import draw_noise, sample
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.layout import identity
from sidestep_core.model.load import load_decoder


@attrs.frozen(kw_only=True)
class Listening:
    """What is generated where.

    Attributes:
        sound: prompt and settings.
        output: FLAC file to write.
        adapter: folder or file of an adapter, None to hear the model alone.
        compare: write the same without the adapter as well, beside it.
        device: where models run.
        dtype: what they compute in.
    """

    sound: SoundConfig
    output: Path
    adapter: Path | None
    compare: bool
    device: str
    dtype: Resolved


def listen(wanted: Listening, model: ModelFolder) -> Iterator[Event]:
    """Generate audio and yield what happens, a `PreviewMade` with the files last.

    Raises:
        ConfigError: there is no prompt, or the output cannot be a FLAC file.
        AdapterError: the adapter is damaged or does not fit the model.
        CheckpointError: a model cannot be loaded.
        GenerationError: what came out is not finite.
    """
    began = time.monotonic()
    _check(wanted)
    saved = _read(wanted.adapter) if wanted.adapter is not None else None
    yield from _mismatch(saved, model)
    texts = make_texts(wanted.sound, _conditioning(saved))
    sampler = choose_sampler(wanted.sound, model)

    yield StageStarted(stage="prompt", total=1)
    rows = encode_prompt(model, texts, device=wanted.device, dtype=DTYPES[wanted.dtype])
    files = _files(wanted)
    yield StageStarted(stage="generate", total=len(files))
    latents = _generate(wanted, model, saved, rows, sampler)
    yield StageStarted(stage="decode", total=len(files))
    sounds = decode(model, latents, wanted.device)
    for (path, adapted), sound in zip(files.items(), sounds, strict=True):
        facts = _facts(wanted, model, texts, sampler, adapted)
        write_audio(path, sound[: round(wanted.sound.seconds * SAMPLE_RATE)], facts)
    yield PreviewMade(step=0, epoch=0, paths=tuple(files), seconds=time.monotonic() - began)


def _check(wanted: Listening) -> None:
    if not wanted.sound.prompt:
        raise ConfigError("nothing to generate: give --prompt, a description of the music")
    if wanted.output.suffix.lower() != ".flac":
        raise ConfigError(f"--output '{wanted.output}' must end in .flac")
    if wanted.compare and wanted.adapter is None:
        raise ConfigError("--compare needs an adapter to compare with: give --adapter")


def _read(path: Path) -> SavedAdapter:
    saved = read_adapter(path)
    next(deltas(saved))  # one that cannot be heard is told before anything is loaded
    return saved


def _mismatch(saved: SavedAdapter | None, model: ModelFolder) -> Iterator[Notice]:
    base = saved.metadata.get("base_identity") if saved else None
    if saved and base and base != identity(model):
        name = saved.metadata.get("base_model", "another model")
        yield Notice(
            message=f"the adapter was trained on {name}, not on {model.name}; choose the model with --model",
            warning=True,
        )


def _conditioning(saved: SavedAdapter | None) -> Conditioning:
    """Return the shape of prompts that an adapter was trained with."""
    return "side-step" if saved and saved.metadata.get("conditioning") == "side-step" else "inference"


def _files(wanted: Listening) -> dict[Path, bool]:
    """Return the files to write, in the order they are generated, and whether they have the adapter."""
    with_it = {wanted.output: wanted.adapter is not None}
    without = wanted.output.with_stem(f"{wanted.output.stem}_without")
    return {without: False, **with_it} if wanted.compare else with_it


def _generate(
    wanted: Listening, model: ModelFolder, saved: SavedAdapter | None, rows: Tensor, sampler: Sampler
) -> list[Tensor]:
    decoder = load_decoder(model, device=wanted.device, dtype=DTYPES[wanted.dtype])
    noise = draw_noise(wanted.sound.seconds, wanted.sound.seed)
    made = []
    if saved is None or wanted.compare:
        made.append(sample(decoder, rows, noise, sampler))
    if saved is not None:
        add_deltas(decoder, deltas(saved, BaseWeights(model)))
        made.append(sample(decoder, rows, noise, sampler))
    return made


def _facts(wanted: Listening, model: ModelFolder, texts: Texts, sampler: Sampler, adapted: bool) -> dict[str, Any]:
    return {
        "prompt": texts.prompt,
        "lyrics": texts.lyrics,
        "adapter": str(wanted.adapter) if adapted else False,
        "seconds": wanted.sound.seconds,
        "seed": wanted.sound.seed,
        **attrs.asdict(sampler),
        "model": model.name,
        "model_identity": identity(model),
        "precision": wanted.dtype,
    }
