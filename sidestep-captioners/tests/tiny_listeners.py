"""Small models of the kinds that listen, complete folders on disk.

Such a model has real parts and random weights. With `answer` it has learnt one thing by heart: whatever it is asked,
it says that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sidestep_core.model.quiet import no_progress_bar
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AudioFlamingo3EncoderConfig,
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2Config,
    WhisperFeatureExtractor,
)

MELS = 16
_END, _START, _PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
_TEXT = "a slow song with drums, bass and a warm voice in the key of a minor at 120 beats per minute"
_OMNI_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_FLAMINGO_TOKENS = {
    "audio_token": "<sound>",
    "audio_bos_token": "<|sound_bos|>",
    "audio_eos_token": "<|sound_eos|>",
}
_FLAMINGO_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<sound>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_omni(folder: Path, *, answer: str = "", seconds: int = 300, seed: int = 0) -> Path:
    """Write a model of the Qwen2.5-Omni kind, all of it but the voice, and return its folder.

    Args:
        folder: where to; it is made.
        answer: what it always says; a random model babbles.
        seconds: longest recording.
        seed: of its weights.
    """
    torch.manual_seed(seed)
    tokenizer = _tokenizer(_OMNI_TOKENS, answer)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in _OMNI_TOKENS.items()}
    model = Qwen2_5OmniForConditionalGeneration(Qwen2_5OmniConfig(**_omni_shape(len(tokenizer), ids)))
    if answer:
        _learn(model.thinker.model.language_model, model.thinker.lm_head, tokenizer, answer)
    _save(model, tokenizer, folder)
    WhisperFeatureExtractor(feature_size=MELS, chunk_length=seconds).save_pretrained(folder)
    return folder


def write_tiny_flamingo(folder: Path, *, answer: str = "", seed: int = 0) -> Path:
    """Write a model of the Music Flamingo kind and return its folder; see `write_tiny_omni`."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(_FLAMINGO_TOKENS, answer)
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in _FLAMINGO_TOKENS.items()}
    audio = AudioFlamingo3EncoderConfig(
        num_mel_bins=MELS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_source_positions=1500,
    )
    text = Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=False, **_text_shape())
    model = MusicFlamingoForConditionalGeneration(MusicFlamingoConfig(audio_config=audio, text_config=text, **ids))
    if answer:
        _learn(model.model.language_model, model.lm_head, tokenizer, answer)
    _save(model, tokenizer, folder)
    MusicFlamingoProcessor(
        WhisperFeatureExtractor(feature_size=MELS, chunk_length=30), tokenizer, chat_template=_FLAMINGO_CHAT
    ).save_pretrained(folder)
    return folder


def _tokenizer(special: Mapping[str, str], answer: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    marks = [_PAD, _START, _END, *special.values()]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([_TEXT], trainers.BpeTrainer(special_tokens=marks, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=_END, pad_token=_PAD, extra_special_tokens=dict(special)
    )
    if answer:
        tokenizer.add_tokens([answer])
    return tokenizer


def _learn(language: Any, head: Any, tokenizer: PreTrainedTokenizerFast, answer: str) -> None:
    """Let the next token follow from the last one alone: after a question the answer, after the answer the end."""
    question = tokenizer("\n")["input_ids"][-1]
    said, end = tokenizer.convert_tokens_to_ids([answer, _END])
    embedding = language.embed_tokens.weight
    with torch.no_grad():
        for layer in language.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding.normal_(std=1.0)
        head.weight.zero_()
        head.weight[said] = embedding[question]
        head.weight[end] = embedding[said]


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    for part in (model, getattr(model, "thinker", model)):
        part.generation_config.eos_token_id = tokenizer.eos_token_id
        part.generation_config.pad_token_id = tokenizer.pad_token_id
    with no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _text_shape() -> dict[str, Any]:
    return {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
    }


def _omni_shape(vocabulary: int, ids: Mapping[str, int]) -> dict[str, Any]:
    audio = {
        "num_mel_bins": MELS,
        "d_model": 64,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "output_dim": 64,
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 4,
        "fullatt_block_indexes": [0],
    }
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e6}
    text = {"vocab_size": vocabulary, "rope_parameters": rope, "tie_word_embeddings": False, **_text_shape()}
    thinker = {
        "audio_config": audio,
        "vision_config": vision,
        "text_config": text,
        "audio_token_index": ids["audio_token"],
        "audio_token_id": ids["audio_token"],
        "image_token_id": ids["image_token"],
        "video_token_id": ids["video_token"],
        "audio_start_token_id": ids["audio_bos_token"],
        "audio_end_token_id": ids["audio_eos_token"],
        "vision_start_token_id": ids["vision_bos_token"],
        "vision_end_token_id": ids["vision_eos_token"],
        "vision_token_id": ids["image_token"],
    }
    return {"enable_audio_output": False, "thinker_config": thinker}
