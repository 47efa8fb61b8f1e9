"""The modules built for published dimensions have the tensors that published checkpoints hold."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from sidestep_core.model.components import build_condition_encoder, build_transformer, build_vae
from sidestep_core.model.dims import ModelDims
from sidestep_core.model.names import to_diffusers, to_original
from sidestep_core.model.tiny import disturb, tiny_config
from torch import nn

COMMON = {
    "head_dim": 128,
    "in_channels": 192,
    "audio_acoustic_hidden_dim": 64,
    "patch_size": 2,
    "text_hidden_dim": 1024,
    "num_lyric_encoder_hidden_layers": 8,
    "num_timbre_encoder_hidden_layers": 4,
    "num_key_value_heads": 8,
}
BASE = COMMON | {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
XL = COMMON | {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "encoder_hidden_size": 2048,
    "encoder_intermediate_size": 6144,
    "encoder_num_attention_heads": 16,
    "encoder_num_key_value_heads": 8,
}


def shapes(config: dict[str, int], part: str) -> dict[str, tuple[int, ...]]:
    """Original names and shapes of a component, built without memory."""
    dims = ModelDims.from_config(config, "config.json")
    with torch.device("meta"):
        module = build_transformer(dims) if part == "transformer" else build_condition_encoder(dims)
    return {to_original(part, key): tuple(value.shape) for key, value in module.state_dict().items()}


def decoder_shapes(hidden: int, inner: int, layers: int, queries: int, keys: int, condition: int) -> dict[str, tuple]:
    """What ACE-Step's own decoder holds, written down from its published code."""
    time = {
        f"{name}.{key}": shape
        for name in ("time_embed", "time_embed_r")
        for key, shape in {
            "linear_1.weight": (hidden, 256),
            "linear_1.bias": (hidden,),
            "linear_2.weight": (hidden, hidden),
            "linear_2.bias": (hidden,),
            "time_proj.weight": (6 * hidden, hidden),
            "time_proj.bias": (6 * hidden,),
        }.items()
    }
    layer = {
        "scale_shift_table": (1, 6, hidden),
        "self_attn_norm.weight": (hidden,),
        "cross_attn_norm.weight": (hidden,),
        "mlp_norm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    for block in ("self_attn", "cross_attn"):
        layer |= {
            f"{block}.q_proj.weight": (queries, hidden),
            f"{block}.k_proj.weight": (keys, hidden),
            f"{block}.v_proj.weight": (keys, hidden),
            f"{block}.o_proj.weight": (hidden, queries),
            f"{block}.q_norm.weight": (128,),
            f"{block}.k_norm.weight": (128,),
        }
    rest = {
        "scale_shift_table": (1, 2, hidden),
        "proj_in.1.weight": (hidden, 192, 2),
        "proj_in.1.bias": (hidden,),
        "proj_out.1.weight": (hidden, 64, 2),
        "proj_out.1.bias": (64,),
        "condition_embedder.weight": (hidden, condition),
        "condition_embedder.bias": (hidden,),
        "norm_out.weight": (hidden,),
    }
    whole = time | rest | {f"layers.{i}.{key}": shape for i in range(layers) for key, shape in layer.items()}
    return {f"decoder.{key}": shape for key, shape in whole.items()}


def test_the_2b_decoder_has_the_published_tensors():
    assert shapes(BASE, "transformer") == decoder_shapes(2048, 6144, 24, 2048, 1024, 2048)


def test_the_xl_decoder_has_the_published_tensors():
    assert shapes(XL, "transformer") == decoder_shapes(2560, 9728, 32, 4096, 1024, 2048)


def test_the_condition_encoder_is_the_same_in_2b_and_xl():
    base, xl = shapes(BASE, "condition_encoder"), shapes(XL, "condition_encoder")
    assert base == xl
    assert base["null_condition_emb"] == (1, 1, 2048)
    assert base["encoder.text_projector.weight"] == (2048, 1024)
    assert base["encoder.timbre_encoder.special_token"] == (1, 1, 2048)
    del base["encoder.silence_latent"]
    assert round(sum(math.prod(shape) for shape in base.values()) / 1e9, 3) == 0.608


@pytest.mark.parametrize("part", ["transformer", "condition_encoder"])
@pytest.mark.parametrize("config", [BASE, XL])
def test_every_published_name_leads_back_to_its_component(part, config):
    names = [name for name in shapes(config, part) if not name.endswith("silence_latent")]
    assert {to_diffusers(name)[0] for name in names} == {part}


def test_only_the_xl_encoder_prepends_the_timbre_token():
    counts = {}
    for variant in ("base", "xl-base"):
        encoder = build_condition_encoder(ModelDims.from_config(tiny_config(variant), variant))
        counts[variant] = encoder.timbre_encoder.embed_tokens(torch.zeros(2, 10, 64)).shape[1]
    assert counts == {"base": 10, "xl-base": 11}


def test_the_window_reaches_the_sliding_layers_alone():
    transformer = build_transformer(ModelDims.from_config(tiny_config("base", window=9), "tiny"))
    assert [layer.self_attn.sliding_window for layer in transformer.layers] == [9, None, 9, None]


def test_a_vae_is_built_without_a_warning():
    config = {"encoder_hidden_size": 8, "downsampling_ratios": [2], "channel_multiples": [1], "decoder_channels": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = build_vae(config | {"decoder_input_channels": 4})
    assert vae.hop_length == 2


def test_disturbing_changes_constants_and_nothing_else():
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    before = {name: value.clone() for name, value in module.named_parameters()}
    disturb(module)
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"1.weight", "1.bias"}
