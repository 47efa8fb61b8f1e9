"""The conditioning of a prompt that is no song of the set."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch
from torch import Tensor

from sidestep_core.configs import Conditioning, SoundConfig
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.load import load_condition_encoder, load_text_encoder
from sidestep_core.model.streaming import Device
from sidestep_core.preprocess.condition_pass import encode_condition, timbre_reference
from sidestep_core.preprocess.text_pass import encode_text, tokenize
from sidestep_core.prompts import MAX_LYRICS_TOKENS, MAX_PROMPT_TOKENS, lyrics_prompt, text_prompt
from sidestep_core.songs import INSTRUMENTAL, Song


@attrs.frozen(kw_only=True)
class Texts:
    """What the model reads of a prompt.

    Attributes:
        prompt: caption and metadata as the text encoder is given them.
        lyrics: lyrics likewise.
        conditioning: how they were built.
    """

    prompt: str
    lyrics: str
    conditioning: Conditioning


def make_texts(sound: SoundConfig, conditioning: Conditioning) -> Texts:
    """Return the texts of a prompt, in the shape that songs have in tensors of that conditioning."""
    song = Song(
        path=Path(),
        name="prompt",
        caption=sound.prompt,
        lyrics=sound.lyrics or INSTRUMENTAL,
        instrumental=not sound.lyrics,
        language=sound.language,
    )
    prompt = text_prompt(song, seconds=int(sound.seconds), tag="", tag_position="prepend", use_genre=False)
    return Texts(prompt=prompt, lyrics=lyrics_prompt(song, conditioning), conditioning=conditioning)


def encode_prompt(model: ModelFolder, texts: Texts, *, device: Device, dtype: torch.dtype) -> Tensor:
    """Return the conditioning [L, E] of texts on the CPU; both encoders are loaded, used and let go, one by one.

    Raises:
        CheckpointError: an encoder cannot be loaded.
    """
    encoded = _encode_texts(model, texts, device, dtype)
    encoder = load_condition_encoder(model, device=device, dtype=dtype)
    timbre = timbre_reference(encoder, texts.conditioning, model.dims.timbre_frames)
    return encode_condition(encoder, encoded["text"].to(timbre), encoded["lyrics"].to(timbre), timbre)


def _encode_texts(model: ModelFolder, texts: Texts, device: Device, dtype: torch.dtype) -> dict[str, Tensor]:
    tokenizer, encoder = load_text_encoder(model, device=device, dtype=dtype)
    prompt = tokenize(tokenizer, texts.prompt, MAX_PROMPT_TOKENS)
    lyrics = tokenize(tokenizer, texts.lyrics, MAX_LYRICS_TOKENS[texts.conditioning])
    return encode_text(encoder, prompt.ids.to(device), lyrics.ids.to(device))
