"""A tiny but complete ACE-Step checkpoint with random weights, for tests and demonstrations.

Real is everything that can be seen from outside: file layout, parameter names, config fields, a 48 kHz stereo VAE with
a hop of 1920 samples, and a text encoder with a working tokenizer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AceStepPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer
from safetensors.torch import save_file
from torch import Tensor, nn

from sidestep_core.model.components import build_condition_encoder, build_transformer, encoder_arguments
from sidestep_core.model.dims import ModelDims
from sidestep_core.model.folder import SILENCE, TEXT_ENCODER
from sidestep_core.model.names import to_original
from sidestep_core.model.quiet import no_progress_bar
from sidestep_core.model.tiny_text import write_text_encoder
from sidestep_core.model.tiny_vae import encode_silence, make_vae

POOLER_LAYERS = 2


def write_tiny(
    out: Path,
    *,
    variants: Sequence[str] = ("base",),
    diffusers: Path | None = None,
    hidden: int = 64,
    layers: int = 4,
    window: int = 16,
    dtype: str = "float32",
    seed: int = 0,
) -> None:
    """Write a checkpoint folder with `acestep-v15-<variant>/`, `vae/` and a text encoder.

    Args:
        out: the checkpoint folder; made if absent.
        variants: any of `layout.VARIANTS`; the XL ones have a wider decoder and weights in two files.
        diffusers: where to write the first variant as a diffusers pipeline too.
        hidden: width of every encoder and of the decoders that are not XL, a multiple of 32.
        layers: decoder layers.
        window: positions that a sliding layer sees to each side.
        dtype: type of the model's weights, `float32` or `bfloat16`.
        seed: seed of all weights; the global random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = make_vae()
        silence = encode_silence(vae)
        vae.bfloat16().save_pretrained(out / "vae")
        text = write_text_encoder(out / TEXT_ENCODER, hidden)
        made = []
        for variant in variants:
            config = tiny_config(variant, hidden=hidden, layers=layers, window=window) | {"dtype": dtype}
            parts = _make_parts(config, getattr(torch, dtype))
            _write_model(out / f"acestep-v15-{variant}", config, parts, silence)
            made.append(parts)
    if diffusers is not None:
        made[0]["condition_encoder"].silence_latent = silence.transpose(1, 2).to(getattr(torch, dtype)).contiguous()
        model, tokenizer = text
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
        pipeline = AceStepPipeline(vae=vae, text_encoder=model, tokenizer=tokenizer, scheduler=scheduler, **made[0])
        with no_progress_bar():
            pipeline.save_pretrained(diffusers)


def tiny_config(variant: str, *, hidden: int = 64, layers: int = 4, window: int = 16) -> dict[str, Any]:
    """Return a config.json with all fields of a real one and tiny values."""
    head_dim = 16
    heads = hidden // head_dim
    config = {
        "architectures": ["AceStepConditionGenerationModel"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "audio_acoustic_hidden_dim": 64,
        "data_proportion": 0.5,
        "dtype": "float32",
        "fsq_dim": hidden,
        "fsq_input_levels": [8, 8, 8, 5, 5, 5],
        "fsq_input_num_quantizers": 1,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "in_channels": 192,
        "initializer_range": 0.02,
        "intermediate_size": 3 * hidden,
        "is_turbo": variant.endswith("turbo"),
        "layer_types": [("sliding_attention", "full_attention")[i % 2] for i in range(layers)],
        "max_position_embeddings": 32768,
        "model_type": "acestep",
        "model_version": variant.removeprefix("xl-"),
        "num_attention_heads": heads,
        "num_attention_pooler_hidden_layers": POOLER_LAYERS,
        "num_audio_decoder_hidden_layers": layers,
        "num_hidden_layers": layers,
        "num_key_value_heads": heads // 2,
        "num_lyric_encoder_hidden_layers": 2,
        "num_timbre_encoder_hidden_layers": 2,
        "patch_size": 2,
        "pool_window_size": 5,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": window,
        "text_hidden_dim": hidden,
        "timbre_fix_frame": 750,
        "timbre_hidden_dim": 64,
        "timestep_mu": -0.4,
        "timestep_sigma": 1.0,
        "use_cache": True,
        "use_sliding_window": True,
        "vocab_size": 64003,
    }
    return config | (_xl_fields(hidden, heads) if variant.startswith("xl-") else {})


def disturb(module: nn.Module) -> None:
    """Change parameters that classes initialise to constants, so that none can be swapped or left out unseen."""
    with torch.no_grad():
        for parameter in module.parameters():
            if torch.equal(parameter, parameter.flatten()[:1].expand_as(parameter)):
                parameter.add_(0.05 * torch.randn_like(parameter))


def _xl_fields(hidden: int, heads: int) -> dict[str, int]:
    """Return the fields of a decoder that is wider than its encoder and whose heads are wider than it."""
    wide = hidden + hidden // 4
    return {
        "encoder_hidden_size": hidden,
        "encoder_intermediate_size": 3 * hidden,
        "encoder_num_attention_heads": heads,
        "encoder_num_key_value_heads": heads // 2,
        "hidden_size": wide,
        "intermediate_size": 3 * wide + wide // 4,
        "num_attention_heads": 2 * heads,
        "num_key_value_heads": heads // 2,
    }


def _make_parts(config: dict[str, Any], dtype: torch.dtype) -> dict[str, nn.Module]:
    """Return the four diffusers components of a model."""
    dims = ModelDims.from_config(config, "the tiny config")
    codec = encoder_arguments(dims) | {
        "audio_acoustic_hidden_dim": dims.latent_channels,
        "pool_window_size": config["pool_window_size"],
        "num_attention_pooler_hidden_layers": POOLER_LAYERS,
        "layer_types": list(dims.layer_types[:POOLER_LAYERS]),
    }
    levels = {name: config[name] for name in ("fsq_dim", "fsq_input_levels", "fsq_input_num_quantizers")}
    parts = {
        "transformer": build_transformer(dims),
        "condition_encoder": build_condition_encoder(dims),
        "audio_tokenizer": AceStepAudioTokenizer(**codec, **levels),
        "audio_token_detokenizer": AceStepAudioTokenDetokenizer(**codec),
    }
    for part in parts.values():
        disturb(part)
        nn.Module.to(part, dtype).eval()  # diffusers' own `to` warns
    return parts


def _write_model(path: Path, config: dict[str, Any], parts: dict[str, nn.Module], silence: Tensor) -> None:
    path.mkdir(parents=True, exist_ok=True)
    state = {
        to_original(part, key): value.contiguous()
        for part, module in parts.items()
        for key, value in module.state_dict().items()
        if key != "silence_latent"
    }
    if "encoder_hidden_size" in config:
        _save_shards(path, state)
    else:
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    torch.save(silence, path / SILENCE)


def _save_shards(path: Path, state: dict[str, Tensor], count: int = 2) -> None:
    names = sorted(state)
    size = math.ceil(len(names) / count)
    places: dict[str, str] = {}
    for i in range(count):
        file = f"model-{i + 1:05d}-of-{count:05d}.safetensors"
        shard = {name: state[name] for name in names[i * size : (i + 1) * size]}
        save_file(shard, path / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    total = sum(value.nbytes for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
