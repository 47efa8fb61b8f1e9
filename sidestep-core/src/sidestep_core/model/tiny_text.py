"""The text encoder of the tiny checkpoint: a small Qwen3 and a byte-level tokenizer in Qwen's arrangement."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

END = "<|endoftext|>"
_CHAT = ("<|im_start|>", "<|im_end|>")
# words as Qwen splits them: contractions, letters, single digits, punctuation, line ends, spaces
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEXT = """# Instruction
Fill the audio semantic mask based on the given conditions:

# Caption
warm hip hop with dusty drums, mellow electric piano and vinyl crackle
fast drum and bass with chopped breaks and a female singer
acoustic folk ballad with fingerpicked guitar and a soft male voice
epic orchestral score with strings, brass, choir and percussion
slow ambient pads without drums, distorted metal guitars and screams

# Metas
- bpm: 120
- timesignature: 4
- keyscale: C major
- keyscale: A minor
- duration: 30 seconds
- bpm: N/A

# Languages
en

# Lyric
[Intro]
[Instrumental]
[Verse 1]
we walk along the river while the city falls asleep
[Chorus]
sing it over and over until the morning light
[Bridge]
[Outro]
"""


def write_text_encoder(path: Path, hidden: int) -> tuple[Qwen3Model, Any]:
    """Write model and tokenizer as transformers reads them; return both."""
    vocabulary = _write_tokenizer(path)
    config = Qwen3Config(
        vocab_size=math.ceil(vocabulary / 64) * 64,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
    model = Qwen3Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # the class's own 0.02 makes all texts look alike
                parameter.normal_(0, 1 / math.sqrt(parameter.shape[-1]))
    config.save_pretrained(path)
    save_file(model.state_dict(), path / "model.safetensors", metadata={"format": "pt"})
    return model, AutoTokenizer.from_pretrained(path)


def _write_tokenizer(path: Path) -> int:
    """Train a tokenizer that ends every text with `<|endoftext|>`, write it and return its size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_TEXT.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (END, *_CHAT)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}",
        pair=f"$A {END} $B {END}",
        special_tokens=[(END, tokenizer.token_to_id(END))],
    )
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    config = {
        "add_prefix_space": False,
        "additional_special_tokens": list(_CHAT),
        "eos_token": _CHAT[-1],
        "model_max_length": 131072,
        "pad_token": END,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return int(tokenizer.get_vocab_size())
