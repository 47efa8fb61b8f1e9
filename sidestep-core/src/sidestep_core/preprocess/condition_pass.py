"""Pass 2: the condition encoder joins lyrics, timbre reference and text to the rows that the decoder attends to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sidestep_core.configs import Conditioning
from sidestep_core.errors import StoreError
from sidestep_core.events import Event, Notice, SongFinished, SongRejected, StageStarted
from sidestep_core.model.load import load_condition_encoder
from sidestep_core.preprocess.plan import Entry, Job
from sidestep_core.preprocess.text_pass import text_path
from sidestep_core.prompts import MAX_LYRICS_TOKENS, MAX_PROMPT_TOKENS
from sidestep_core.store.index import conditioning_path
from sidestep_core.store.tensors import read_metadata, read_tensors, write_conditioning


def encode_conditions(job: Job, missing: Mapping[str, Sequence[Entry]]) -> Iterator[Event]:
    """Make the conditionings that are missing from the texts that pass 1 left; say where a text was cut.

    Raises:
        Cancelled: the user asked to stop.
        CheckpointError: the condition encoder cannot be loaded.
    """
    if not missing:
        return
    yield StageStarted(stage="condition", total=sum(map(len, missing.values())))
    encoder = load_condition_encoder(job.model, device=job.device, dtype=job.torch_dtype)
    timbre = timbre_reference(encoder, job.config.conditioning, job.model.dims.timbre_frames)
    for key, same in missing.items():
        job.check_cancelled()
        cuts = read_metadata(text_path(job, key)) or {}
        cut_lyrics = int(cuts["cut_lyrics"])
        yield from _notices(job, same, cut_lyrics, int(cuts["cut_prompt"]))
        texts = read_tensors(text_path(job, key))
        conditioning = encode_condition(encoder, texts["text"].to(timbre), texts["lyrics"].to(timbre), timbre)
        try:
            write_conditioning(
                conditioning_path(job.output, key), conditioning, _metadata(job, same[0], conditioning, cut_lyrics)
            )
        except StoreError as error:
            yield from (SongRejected(name=entry.song.name, reason=str(error)) for entry in same)
            continue
        for entry in same:
            entry.rows, entry.cut_lyrics, entry.renewed = len(conditioning), cut_lyrics, True
            yield SongFinished(stage="condition", name=entry.song.name, audio_seconds=entry.seconds)


def timbre_reference(encoder: nn.Module, conditioning: Conditioning, frames: int) -> Tensor:
    """Return [1, frames, 64]: silence, as ACE-Step takes it without a reference, or Side-Step's one frame of zeros."""
    silence: Tensor = encoder.silence_latent  # type: ignore[assignment]
    return torch.zeros_like(silence[:, :1]) if conditioning == "side-step" else silence[:, :frames]


@torch.inference_mode()
def encode_condition(encoder: nn.Module, text: Tensor, lyrics: Tensor, timbre: Tensor) -> Tensor:
    """Return the conditioning [L, E]; nothing is padded, so every row counts."""

    def all_of(states: Tensor) -> Tensor:
        return torch.ones(1, len(states), dtype=torch.bool, device=states.device)

    rows, _ = encoder(
        text_hidden_states=text[None],
        text_attention_mask=all_of(text),
        lyric_hidden_states=lyrics[None],
        lyric_attention_mask=all_of(lyrics),
        refer_audio_acoustic_hidden_states_packed=timbre,
        refer_audio_order_mask=torch.zeros(1, dtype=torch.long, device=timbre.device),
    )
    return rows[0].cpu()  # type: ignore[no-any-return]


def _metadata(job: Job, entry: Entry, conditioning: Tensor, cut_lyrics: int) -> dict[str, str]:
    return {
        "key": entry.conditioning_key,
        "conditioning": job.config.conditioning,
        "model": job.model_id,
        "variant": job.model.variant,
        "text_encoder": job.text_id,
        "dtype": job.dtype,
        "prompt": entry.prompt,
        "lyrics": entry.lyrics,
        "rows": str(len(conditioning)),
        "cut_lyrics": str(cut_lyrics),
    }


def _notices(job: Job, same: Sequence[Entry], cut_lyrics: int, cut_prompt: int) -> Iterator[Event]:
    limit = MAX_LYRICS_TOKENS[job.config.conditioning]
    for entry in same:
        name = entry.song.name
        if cut_lyrics:
            what = f"the lyrics of '{name}' are {limit + cut_lyrics} tokens long; the last {cut_lyrics} were cut"
            yield Notice(message=what, warning=True)
        if cut_prompt:
            length = MAX_PROMPT_TOKENS + cut_prompt
            what = (
                f"the prompt of '{name}' is {length} tokens long; the last {cut_prompt} were cut: shorten its caption"
            )
            yield Notice(message=what, warning=True)
