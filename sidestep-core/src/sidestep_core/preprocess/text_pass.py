"""Pass 1, text: the text encoder's states of each prompt, and the embeddings of each lyric's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sidestep_core.events import Event, SongFinished, StageStarted
from sidestep_core.files import write_atomic
from sidestep_core.model.load import load_text_encoder
from sidestep_core.preprocess.plan import Entry, Job
from sidestep_core.prompts import MAX_LYRICS_TOKENS, MAX_PROMPT_TOKENS
from sidestep_core.store.index import conditioning_path
from sidestep_core.store.tensors import read_metadata


@attrs.frozen(kw_only=True)
class Tokens:
    """A text as tokens [1, n], and how many of its tokens are not among them."""

    ids: Tensor
    cut: int


def text_path(job: Job, key: str) -> Path:
    """Return where the texts of a conditioning wait for the condition encoder."""
    return job.work / "text" / f"{key}.safetensors"


def find_missing(job: Job, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the entries without conditioning by key; the others learn what theirs is."""
    missing: dict[str, list[Entry]] = {}
    for entry in entries:
        header = read_metadata(conditioning_path(job.output, entry.conditioning_key))
        if header is None:
            missing.setdefault(entry.conditioning_key, []).append(entry)
        else:
            entry.rows, entry.cut_lyrics = int(header["rows"]), int(header["cut_lyrics"])
    return missing


def encode_texts(job: Job, missing: dict[str, list[Entry]]) -> Iterator[Event]:
    """Write text states and lyric embeddings, unpadded, for the conditionings that are missing.

    Raises:
        Cancelled: the user asked to stop.
        CheckpointError: the text encoder cannot be loaded.
    """
    todo = {key: same for key, same in missing.items() if read_metadata(text_path(job, key)) is None}
    if not todo:
        return
    yield StageStarted(stage="text", total=sum(map(len, todo.values())))
    tokenizer, encoder = load_text_encoder(job.model, device=job.device, dtype=job.torch_dtype)
    (job.work / "text").mkdir(parents=True, exist_ok=True)
    for key, same in todo.items():
        job.check_cancelled()
        prompt = tokenize(tokenizer, same[0].prompt, MAX_PROMPT_TOKENS)
        lyrics = tokenize(tokenizer, same[0].lyrics, MAX_LYRICS_TOKENS[job.config.conditioning])
        tensors = encode_text(encoder, prompt.ids.to(job.device), lyrics.ids.to(job.device))
        cuts = {"cut_prompt": str(prompt.cut), "cut_lyrics": str(lyrics.cut)}
        write_atomic(text_path(job, key), safetensors.torch.save(tensors, cuts))
        yield from (SongFinished(stage="text", name=entry.song.name, audio_seconds=entry.seconds) for entry in same)


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> Tokens:
    """Return a text as at most `limit` tokens."""
    whole = len(tokenizer(text)["input_ids"])
    ids = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")["input_ids"]
    return Tokens(ids=ids, cut=max(0, whole - limit))


@torch.inference_mode()
def encode_text(encoder: PreTrainedModel, prompt: Tensor, lyrics: Tensor) -> dict[str, Tensor]:
    """Return `text` [n, E], the last hidden states, and `lyrics` [m, E], only looked up: contexts come later."""
    states = encoder(input_ids=prompt).last_hidden_state
    embeddings = encoder.get_input_embeddings()(lyrics)
    return {"text": states[0].cpu().contiguous(), "lyrics": embeddings[0].cpu().contiguous()}
