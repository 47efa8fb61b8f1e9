"""Original and diffusers names of parameters and modules."""

from __future__ import annotations

import pytest
from sidestep_core.model.names import module_path, original_path, to_diffusers, to_original

PAIRS = [
    ("decoder.scale_shift_table", "transformer", "scale_shift_table"),
    ("decoder.proj_in.1.weight", "transformer", "proj_in_conv.weight"),
    ("decoder.proj_out.1.bias", "transformer", "proj_out_conv.bias"),
    ("decoder.time_embed_r.linear_1.bias", "transformer", "time_embed_r.linear_1.bias"),
    ("decoder.layers.3.self_attn.q_proj.weight", "transformer", "layers.3.self_attn.to_q.weight"),
    ("decoder.layers.3.cross_attn.k_proj.weight", "transformer", "layers.3.cross_attn.to_k.weight"),
    ("decoder.layers.3.self_attn.v_proj.weight", "transformer", "layers.3.self_attn.to_v.weight"),
    ("decoder.layers.3.self_attn.o_proj.weight", "transformer", "layers.3.self_attn.to_out.0.weight"),
    ("decoder.layers.3.self_attn.q_norm.weight", "transformer", "layers.3.self_attn.norm_q.weight"),
    ("decoder.layers.3.self_attn.k_norm.weight", "transformer", "layers.3.self_attn.norm_k.weight"),
    ("decoder.layers.3.mlp.up_proj.weight", "transformer", "layers.3.mlp.up_proj.weight"),
    ("encoder.text_projector.weight", "condition_encoder", "text_projector.weight"),
    (
        "encoder.lyric_encoder.layers.0.self_attn.o_proj.weight",
        "condition_encoder",
        "lyric_encoder.layers.0.self_attn.to_out.0.weight",
    ),
    ("null_condition_emb", "condition_encoder", "null_condition_emb"),
    ("tokenizer.quantizer.project_in.weight", "audio_tokenizer", "quantizer.project_in.weight"),
    ("detokenizer.proj_out.weight", "audio_token_detokenizer", "proj_out.weight"),
]


@pytest.mark.parametrize(("original", "part", "key"), PAIRS)
def test_an_original_parameter_is_found_in_its_diffusers_component(original, part, key):
    assert to_diffusers(original) == (part, key)


@pytest.mark.parametrize(("original", "part", "key"), PAIRS)
def test_a_diffusers_parameter_has_its_original_name(original, part, key):
    assert to_original(part, key) == original


@pytest.mark.parametrize("key", ["", "decoder", "lm_head.weight", "model.decoder.layers.0"])
def test_a_parameter_of_no_component_is_unknown(key):
    with pytest.raises(KeyError):
        to_diffusers(key)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("layers.0.self_attn.q_proj", "layers.0.self_attn.to_q"),
        ("layers.11.cross_attn.o_proj", "layers.11.cross_attn.to_out.0"),
        ("layers.0.mlp.gate_proj", "layers.0.mlp.gate_proj"),
    ],
)
def test_a_projection_is_found_in_the_live_module_and_back(name, path):
    assert module_path(name) == path
    assert original_path(path) == name
