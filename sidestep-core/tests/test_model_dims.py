"""Dimensions of a model from its config, and the shapes and counts that follow."""

from __future__ import annotations

import pytest
from sidestep_core.errors import CheckpointError
from sidestep_core.model.dims import ModelDims, decoder_parameters, projection_shapes

CONFIG_2B = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "in_channels": 192,
    "audio_acoustic_hidden_dim": 64,
    "patch_size": 2,
    "text_hidden_dim": 1024,
    "num_lyric_encoder_hidden_layers": 8,
    "num_timbre_encoder_hidden_layers": 4,
}
CONFIG_XL = CONFIG_2B | {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "encoder_hidden_size": 2048,
    "encoder_intermediate_size": 6144,
    "encoder_num_attention_heads": 16,
    "encoder_num_key_value_heads": 8,
}


def test_fields_that_published_files_may_lack_have_ace_steps_defaults():
    dims = ModelDims.from_config(CONFIG_2B, "config.json")
    assert dims.layer_types == ("sliding_attention", "full_attention") * 12
    assert (dims.sliding_window, dims.timbre_frames) == (128, 750)
    assert (dims.norm_eps, dims.rope_theta) == (1e-6, 1e6)
    assert (dims.timestep_mu, dims.timestep_sigma) == (-0.4, 1.0)
    assert (dims.is_turbo, dims.model_version) == (False, "")


def test_a_field_that_is_null_counts_as_absent():
    dims = ModelDims.from_config(CONFIG_2B | {"layer_types": None, "model_version": None}, "config.json")
    assert dims.layer_types[0] == "sliding_attention"
    assert dims.model_version == ""


def test_a_given_field_wins_over_its_default():
    given = {"sliding_window": 7, "timestep_mu": 0.5, "is_turbo": True, "layer_types": ["full_attention"] * 24}
    dims = ModelDims.from_config(CONFIG_2B | given, "config.json")
    assert dims.sliding_window == 7
    assert dims.timestep_mu == 0.5
    assert dims.is_turbo
    assert set(dims.layer_types) == {"full_attention"}


def test_the_condition_encoder_has_the_decoders_width_unless_told_otherwise():
    dims = ModelDims.from_config(CONFIG_2B, "config.json")
    assert (dims.condition_size, dims.condition_heads, dims.xl) == (2048, 16, False)


def test_xl_is_told_by_a_condition_encoder_of_another_width():
    dims = ModelDims.from_config(CONFIG_XL, "config.json")
    assert (dims.hidden_size, dims.condition_size, dims.condition_heads, dims.xl) == (2560, 2048, 16, True)


def test_an_encoder_width_equal_to_the_decoders_is_not_xl():
    assert not ModelDims.from_config(CONFIG_2B | {"encoder_hidden_size": 2048}, "config.json").xl


@pytest.mark.parametrize("field", CONFIG_2B)
def test_a_missing_dimension_is_named(field):
    rest = {name: value for name, value in CONFIG_2B.items() if name != field}
    with pytest.raises(CheckpointError, match=f"^here/config.json has no {field}$"):
        ModelDims.from_config(rest, "here/config.json")


def test_all_missing_dimensions_are_named_in_one_line():
    with pytest.raises(CheckpointError, match=r"^x has no hidden_size, .*num_timbre_encoder_hidden_layers$"):
        ModelDims.from_config({}, "x")


@pytest.mark.parametrize("value", [0, -1, 2.5, "2048", True, [2048]])
def test_a_dimension_that_is_no_positive_whole_number_is_refused(value):
    with pytest.raises(CheckpointError, match="hidden_size must be a positive whole number, not"):
        ModelDims.from_config(CONFIG_2B | {"hidden_size": value}, "config.json")


@pytest.mark.parametrize("field", ["rms_norm_eps", "rope_theta", "timestep_sigma"])
def test_a_number_that_is_none_is_refused(field):
    with pytest.raises(CheckpointError, match=r"config.json has a field of the wrong type"):
        ModelDims.from_config(CONFIG_2B | {field: "much"}, "config.json")


def test_layer_types_must_be_as_many_as_layers():
    with pytest.raises(CheckpointError, match="24 layers but 1 layer_types"):
        ModelDims.from_config(CONFIG_2B | {"layer_types": ["full_attention"]}, "config.json")


def test_an_unknown_layer_type_is_refused():
    types = ["full_attention"] * 23 + ["linear_attention"]
    with pytest.raises(
        CheckpointError, match="layer type 'linear_attention'; known are sliding_attention, full_attention"
    ):
        ModelDims.from_config(CONFIG_2B | {"layer_types": types}, "config.json")


@pytest.mark.parametrize(("config", "billions"), [(CONFIG_2B, 1.575), (CONFIG_XL, 4.169)])
def test_the_published_models_have_their_known_size(config, billions):
    assert round(decoder_parameters(ModelDims.from_config(config, "")) / 1e9, 3) == billions


@pytest.mark.parametrize(("config", "count"), [(CONFIG_2B, 264), (CONFIG_XL, 352)])
def test_every_layer_has_eleven_projections(config, count):
    assert len(projection_shapes(ModelDims.from_config(config, ""))) == count


def test_projections_come_in_the_models_order_with_their_shapes():
    shapes = projection_shapes(ModelDims.from_config(CONFIG_XL, ""))
    assert list(shapes.items())[:11] == [
        ("layers.0.self_attn.q_proj", (4096, 2560)),
        ("layers.0.self_attn.k_proj", (1024, 2560)),
        ("layers.0.self_attn.v_proj", (1024, 2560)),
        ("layers.0.self_attn.o_proj", (2560, 4096)),
        ("layers.0.cross_attn.q_proj", (4096, 2560)),
        ("layers.0.cross_attn.k_proj", (1024, 2560)),
        ("layers.0.cross_attn.v_proj", (1024, 2560)),
        ("layers.0.cross_attn.o_proj", (2560, 4096)),
        ("layers.0.mlp.gate_proj", (9728, 2560)),
        ("layers.0.mlp.up_proj", (9728, 2560)),
        ("layers.0.mlp.down_proj", (2560, 9728)),
    ]
