"""What a preprocessing run is about: its fixed facts, its songs, and keys of all that makes their tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import attrs
import torch

from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.configs import PreprocessConfig
from sidestep_core.device import DTYPES, Resolved
from sidestep_core.errors import Cancelled, CheckpointError, ConfigError
from sidestep_core.files import hash_text
from sidestep_core.launch import Launch, launched
from sidestep_core.model.headers import weight_files
from sidestep_core.model.layout import ModelFolder, identity
from sidestep_core.prompts import lyrics_prompt, text_prompt, wordings
from sidestep_core.songs import Song, SongSet, TagPosition
from sidestep_core.store.index import FORMAT

_SAMPLED = 1 << 20  # bytes of a weight file that its fingerprint covers, at both ends


@attrs.frozen(kw_only=True)
class Job:
    """The fixed facts of a run.

    Attributes:
        config: the settings.
        output: the tensor folder.
        model: the model whose condition encoder is used.
        device: where models run.
        dtype: "fp32", "bf16" or "fp16": what models compute in and tensors are stored in.
        cancelled: asked between songs.
        vae_id: tells this VAE from others.
        text_id: tells this text encoder from others.
        model_id: tells this model from others.
        place: of this process among those that share the work.
    """

    config: PreprocessConfig
    output: Path
    model: ModelFolder
    device: str
    dtype: Resolved
    cancelled: Callable[[], bool]
    vae_id: str
    text_id: str
    model_id: str
    place: Launch

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype for torch."""
        return DTYPES[self.dtype]

    @property
    def work(self) -> Path:
        """Folder of what only lives until the run is complete."""
        return self.output / ".work"

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the user asked to stop."""
        if self.cancelled():
            raise Cancelled("preprocessing was stopped; what is finished is kept, the same command goes on from there")


@attrs.define(kw_only=True)
class Entry:
    """A song on its way; each stage fills in what it finds out.

    Attributes:
        song: what it is.
        tag: trigger tag of its prompt, if it has none of its own.
        tag_position: where the tag goes.
        use_genre: describe it by its genre.
        hash: of the audio file's content.
        latents_key: of the audio and everything done to it.
        frames: latent frames.
        seconds: length of the audio that was encoded.
        prompt: text for the text encoder.
        lyrics: lyrics as the model is given them.
        conditioning_key: of prompt, lyrics and everything done to them.
        rows: rows of conditioning.
        cut_lyrics: tokens of the lyrics that did not fit.
        renewed: whether this run made any of its tensors.
    """

    song: Song
    tag: str
    tag_position: TagPosition
    use_genre: bool
    hash: str = ""
    latents_key: str = ""
    frames: int = 0
    seconds: float = 0.0
    prompt: str = ""
    lyrics: str = ""
    conditioning_key: str = ""
    rows: int = 0
    cut_lyrics: int = 0
    renewed: bool = False


def make_job(
    config: PreprocessConfig, model: ModelFolder, *, device: str, dtype: Resolved, cancelled: Callable[[], bool]
) -> Job:
    """Check the settings and fingerprint the models.

    Raises:
        ConfigError: the output is missing or cannot hold what is asked for.
        CheckpointError: the VAE or the text encoder is missing.
    """
    if config.tensor_output is None:
        raise ConfigError("no folder for the tensors: give --tensor-output")
    if config.tensor_format == "pt" and config.latent == "resample":
        raise ConfigError("--tensor-format pt cannot hold --latent resample; there is sample and mean")
    return Job(
        config=config,
        output=config.tensor_output,
        model=model,
        device=device,
        dtype=dtype,
        cancelled=cancelled,
        vae_id=fingerprint(model.vae, "diffusion_pytorch_model"),
        text_id=fingerprint(model.text_encoder, "model"),
        model_id=identity(model),
        place=launched(),
    )


def make_entries(songs: SongSet, config: PreprocessConfig) -> list[Entry]:
    """Return an entry for each song; what the settings say wins over what the set says."""
    return [
        Entry(song=song, **attrs.asdict(wording))
        for song, wording in zip(songs.songs, wordings(songs, config), strict=True)
    ]


def set_latents_key(job: Job, entry: Entry) -> None:
    """Set the key of what the entry's audio becomes.

    Tile length and device are no part of it: they change the result by rounding and seams only.
    """
    config = job.config
    target = {"none": None, "peak": config.target_db, "lufs": config.target_lufs}[config.normalize]
    seed = config.seed if config.latent == "sample" else None
    made_of = (entry.hash, config.normalize, target, config.max_duration, config.latent, seed, job.vae_id, job.dtype)
    entry.latents_key = _key("latents", *made_of)


def set_samples(entry: Entry, samples: int, frames: int) -> None:
    """Set the entry's length from the samples at 48 kHz that were encoded."""
    entry.seconds, entry.frames = samples / SAMPLE_RATE, frames


def set_prompts(job: Job, entry: Entry) -> None:
    """Set the texts of an entry whose length is known, and the key of what they become."""
    mode = job.config.conditioning
    entry.prompt = text_prompt(
        entry.song,
        seconds=int(entry.seconds),
        tag=entry.tag,
        tag_position=entry.tag_position,
        use_genre=entry.use_genre,
    )
    entry.lyrics = lyrics_prompt(entry.song, mode)
    entry.conditioning_key = _key(
        "conditioning", entry.prompt, entry.lyrics, mode, job.model_id, job.text_id, job.dtype
    )


def fingerprint(folder: Path, stem: str) -> str:
    """Return a hash of a model's config, the sizes of its weight files and the bytes at their ends.

    Raises:
        CheckpointError: there are no weights, or they cannot be read.
    """
    files = weight_files(folder, stem)
    if not files:
        raise CheckpointError(f"no weights ({stem}.safetensors) in '{folder}'; see 'sidestep models list'")
    digest = hashlib.blake2b(digest_size=16)
    try:
        digest.update((folder / "config.json").read_bytes())
        for file in files:
            size = file.stat().st_size
            with file.open("rb") as stream:
                digest.update(f"{size}".encode() + stream.read(_SAMPLED))
                stream.seek(max(0, size - _SAMPLED))
                digest.update(stream.read(_SAMPLED))
    except OSError as error:
        raise CheckpointError(f"'{error.filename}' cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _key(*parts: object) -> str:
    return hash_text(json.dumps([FORMAT, *parts]))
