"""One adapter in the files of every program reads as the same update."""

import json

import pytest
import safetensors.torch
import torch
from sidestep_core.errors import AdapterError
from sidestep_core.formats.keys import read_key
from sidestep_core.formats.reading import deltas, read_updates
from sidestep_core.formats.saved import read_adapter

DOWN, UP = torch.randn(4, 6), torch.randn(8, 4)
MODULE, FLAT = "layers.3.cross_attn.o_proj", "layers_3_cross_attn_o_proj"


def save(path, tensors, metadata=None):
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
    return path


def pair(name, low="lora_down.weight", high="lora_up.weight", **more):
    return {f"{name}.{low}": DOWN, f"{name}.{high}": UP, **{f"{name}.{k}": v for k, v in more.items()}}


ALPHA = {"alpha": torch.tensor(2.0)}  # a scale of one half
DIFFUSERS = {"transformer.r": 4, "transformer.lora_alpha": 2}
FILES = {
    "comfyui native": (pair(f"base_model.model.{MODULE}", **ALPHA), {}, "peft"),
    "comfyui generic": (pair(f"diffusion_model.decoder.{MODULE}", **ALPHA), {}, "comfyui"),
    "comfyui with peft's words": (
        pair(f"diffusion_model.decoder.{MODULE}", "lora_A.weight", "lora_B.weight", **ALPHA),
        {},
        "comfyui",
    ),
    "kohya": (pair(f"lora_unet_{FLAT}", **ALPHA), {}, "kohya"),
    "kohya below the decoder": (pair(f"lora_unet_decoder_{FLAT}", **ALPHA), {}, "kohya"),
    "lycoris": (pair(f"lycoris_{FLAT}", **ALPHA), {}, "lycoris"),
    "lycoris on diffusers": (pair("lycoris_layers_3_cross_attn_to_out_0", **ALPHA), {}, "lycoris"),
    "diffusers": (
        pair("transformer.layers.3.cross_attn.to_out.0", "lora_A.weight", "lora_B.weight"),
        {"lora_adapter_metadata": json.dumps(DIFFUSERS)},
        "diffusers",
    ),
    "ace-step": (pair(f"decoder.{MODULE}", "lora_A.default.weight", "lora_B.default.weight", **ALPHA), {}, "ace-step"),
}


@pytest.mark.parametrize("name", FILES)
def test_lora_of_every_program_reads_alike(tmp_path, name):
    tensors, metadata, layout = FILES[name]
    saved = read_adapter(save(tmp_path / "song.safetensors", tensors, metadata))
    assert (saved.layouts(), saved.kinds()) == ((layout,), {"lora"})
    ((found, delta),) = deltas(saved)
    assert found == MODULE
    assert torch.allclose(delta, UP @ DOWN / 2)


def test_without_an_alpha_the_scale_is_one(tmp_path):
    saved = read_adapter(save(tmp_path / "song.safetensors", pair(f"lora_unet_{FLAT}")))
    assert next(read_updates(saved)).scale == 1


def test_diffusers_own_patterns_count(tmp_path):
    settings = {**DIFFUSERS, "transformer.alpha_pattern": {"layers.3.cross_attn.to_out.0": 6}}
    tensors = pair("transformer.layers.3.cross_attn.to_out.0", "lora_A.weight", "lora_B.weight")
    file = save(tmp_path / "song.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)})
    assert next(read_updates(read_adapter(file))).scale == 1.5


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"transformer.r": 4}', '{"transformer.r": 5, "transformer.lora_alpha": 4}']
)
def test_diffusers_settings_that_make_no_sense_are_refused(tmp_path, text):
    tensors = pair("transformer.layers.3.mlp.up_proj", "lora_A.weight", "lora_B.weight")
    file = save(tmp_path / "song.safetensors", tensors, {"lora_adapter_metadata": text})
    with pytest.raises(AdapterError, match="lora_adapter_metadata"):
        list(read_updates(read_adapter(file)))


def test_another_programs_file_beside_an_adapter_is_not_under_its_settings(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 64, "lora_alpha": 128}')
    saved = read_adapter(save(tmp_path / "comfy.safetensors", pair(f"base_model.model.{MODULE}", **ALPHA)))
    assert next(read_updates(saved)).scale == 0.5


def test_a_renamed_peft_file_is_still_under_its_settings(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 12}')
    tensors = pair(f"base_model.model.{MODULE}", "lora_A.weight", "lora_B.weight")
    assert next(read_updates(read_adapter(save(tmp_path / "mine.safetensors", tensors)))).scale == 3


def test_a_prefix_of_ones_own_is_read_when_it_is_given(tmp_path):
    file = save(tmp_path / "song.safetensors", pair(f"my.model.{MODULE}", **ALPHA))
    with pytest.raises(AdapterError, match=r"'my\.model\.layers.3.*' begins with none of base_model\.model"):
        read_adapter(file).modules()
    assert list(read_adapter(file, "my.model").modules()) == [MODULE]
    assert read_adapter(file, "my.model.").layouts() == ("custom",)


# LyCORIS


def lycoris(**parts):
    return {f"lycoris_{FLAT}.{name}": value for name, value in parts.items()}


def test_loha_is_read(tmp_path):
    a1, b1, a2, b2 = torch.randn(8, 3), torch.randn(3, 6), torch.randn(8, 3), torch.randn(3, 6)
    tensors = lycoris(hada_w1_a=a1, hada_w1_b=b1, hada_w2_a=a2, hada_w2_b=b2, alpha=torch.tensor(6.0))
    ((_, delta),) = deltas(read_adapter(save(tmp_path / "x.safetensors", tensors)))
    assert torch.allclose(delta, 2 * (a1 @ b1) * (a2 @ b2), atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 64.0])
def test_alpha_means_nothing_to_whole_factors(tmp_path, alpha):
    first, second = torch.randn(2, 3), torch.randn(4, 2)
    tensors = lycoris(lokr_w1=first, lokr_w2=second, alpha=torch.tensor(alpha))
    ((_, delta),) = deltas(read_adapter(save(tmp_path / "x.safetensors", tensors)))
    assert torch.allclose(delta, torch.kron(first, second))


def test_alpha_of_a_split_factor_is_divided_by_its_rank(tmp_path):
    first, a, b = torch.randn(2, 3), torch.randn(4, 2), torch.randn(2, 2)
    tensors = lycoris(lokr_w1=first, lokr_w2_a=a, lokr_w2_b=b, alpha=torch.tensor(5.0))
    ((_, delta),) = deltas(read_adapter(save(tmp_path / "x.safetensors", tensors)))
    assert torch.allclose(delta, 2.5 * torch.kron(first, a @ b), atol=1e-6)


def test_a_kernels_update_is_flattened(tmp_path):
    first, second = torch.randn(2, 3), torch.randn(4, 2, 2)  # a kernel of two
    tensors = {"lycoris_proj_in_1.lokr_w1": first, "lycoris_proj_in_1.lokr_w2": second}
    ((name, delta),) = deltas(read_adapter(save(tmp_path / "x.safetensors", tensors)))
    expected = torch.kron(first[:, :, None], second)  # [out, in, kernel]
    assert name == "proj_in.1"
    assert torch.allclose(delta, expected.flatten(1))


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_lengths_of_rows_are_read_as_peft_and_as_lycoris_write_them(tmp_path, shape):
    tensors = pair(f"lycoris_{FLAT}", dora_scale=torch.ones(shape), **ALPHA)
    (update,) = read_updates(read_adapter(save(tmp_path / "x.safetensors", tensors)))
    assert (update.kind, tuple(update.magnitude.shape)) == ("dora", (8,))


def test_what_depends_on_the_weights_has_no_difference_alone(tmp_path):
    tensors = pair(f"lycoris_{FLAT}", dora_scale=torch.ones(8), **ALPHA)
    with pytest.raises(AdapterError, match="holds dora, which means nothing without the model's weights"):
        list(deltas(read_adapter(save(tmp_path / "x.safetensors", tensors))))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"lokr_w1": torch.ones(2, 3)}, "'lokr_w2_a' of 'layers.3.cross_attn.o_proj' is missing"),
        ({"lokr_w1": torch.ones(2, 3), "lokr_w2_a": torch.ones(4, 2), "lokr_w2_b": torch.ones(3, 2)}, "make a product"),
        ({"lokr_w1": torch.ones(2, 3), "lokr_w2": torch.ones(4, 2), "lokr_w2_a": torch.ones(4, 2)}, "has no place"),
        (
            {f"lokr_w{i}_{p}": torch.ones(*s) for i in (1, 2) for p, s in (("a", (4, i)), ("b", (i, 2)))},
            "are of different ranks",
        ),
        ({"lora_up.weight": UP, "lokr_w1": torch.ones(2, 2)}, "has tensors of lokr and lora"),
        ({"alpha": torch.tensor(1.0)}, "has tensors of nothing but alpha"),
        ({"lora_up.weight": UP, "lora_down.weight": DOWN, "alpha": torch.tensor(0.0)}, "must be one number above 0"),
        ({"lora_up.weight": UP, "lora_down.weight": DOWN, "alpha": torch.ones(2)}, "must be one number above 0"),
        ({"lora_up.weight": UP, "lora_down.weight": DOWN, "dora_scale": torch.ones(1, 6)}, "one for each output"),
        ({"diff": torch.ones(3)}, r"has the shape \(3,\)"),
        ({"oft_blocks": torch.ones(2, 2, 2)}, "is no tensor of an adapter that can be read"),
        (
            {
                "hada_w1_a": torch.ones(8, 2),
                "hada_w1_b": torch.ones(2, 6),
                "hada_w2_a": torch.ones(8, 3),
                "hada_w2_b": torch.ones(3, 6),
            },
            "are of different shapes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "tensors",
)
def test_modules_that_are_not_whole_are_refused(tmp_path, parts, message):
    file = save(tmp_path / "x.safetensors", lycoris(**parts))
    with pytest.raises(AdapterError, match=message) as error:
        list(read_updates(read_adapter(file)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"lokr_w1": torch.ones(400, 400), "lokr_w2": torch.ones(400, 400)},
        {"lora_down.weight": torch.ones(1, 1 << 15), "lora_up.weight": torch.ones(1 << 15, 1)},
    ],
    ids=["kronecker", "low rank"],
)
def test_small_factors_of_something_huge_are_refused(tmp_path, parts):
    with pytest.raises(AdapterError, match="is larger than any model's"):
        list(deltas(read_adapter(save(tmp_path / "x.safetensors", lycoris(**parts)))))


def oft(folder, **settings):
    folder.mkdir()
    config = {"peft_type": "OFT", "oft_block_size": 4, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save(folder / "adapter_model.safetensors", {f"base_model.model.{MODULE}.oft_R.weight": 0.1 * torch.ones(3, 6)})
    return next(read_updates(read_adapter(folder)))


def test_oft_is_read_with_the_transform_that_its_settings_name(tmp_path):
    assert [oft(tmp_path / "a").terms, oft(tmp_path / "b", use_cayley_neumann=False).terms] == [5, None]
    assert oft(tmp_path / "c", num_cayley_neumann_terms=7).terms == 7


def test_coft_is_read_within_its_bound(tmp_path):
    free, bound = oft(tmp_path / "a"), oft(tmp_path / "b", coft=True, eps=0.1)
    assert free.generators.norm(dim=1).max() > 0.1
    assert torch.allclose(bound.generators.norm(dim=1) * 2**0.5, torch.tensor(0.1 / 3**0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_cayley_neumann_terms": 10**9}, "must be 1 to 64"),
        ({"num_cayley_neumann_terms": "5"}, "must be a number"),
        ({"coft": True}, "eps must be a number"),
        ({"block_share": True}, "block_share is not read"),
    ],
)
def test_rotations_that_cannot_be_computed_are_refused(tmp_path, settings, message):
    with pytest.raises(AdapterError, match=message):
        oft(tmp_path / "a", **settings)


def test_a_tensor_that_is_there_twice_is_refused(tmp_path):
    tensors = pair(f"lora_unet_{FLAT}") | {key: value + 0 for key, value in pair(f"lycoris_{FLAT}").items()}
    with pytest.raises(AdapterError, match="are the same tensor twice"):
        read_adapter(save(tmp_path / "x.safetensors", tensors)).modules()


# Names


@pytest.mark.parametrize(
    ("key", "module", "part"),
    [
        ("base_model.model.layers.0.mlp.up_proj.lora_A.weight", "layers.0.mlp.up_proj", "down"),
        ("base_model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "layers.0.self_attn.q_proj", "magnitude"),
        ("base_model.model.layers.0.self_attn.q_proj.oft_R.weight", "layers.0.self_attn.q_proj", "generators"),
        ("lora_unet_layers_12_mlp_down_proj.lora_up.weight", "layers.12.mlp.down_proj", "up"),
        ("lycoris_time_embed_r_linear_1.hada_w1_a", "time_embed_r.linear_1", "hada_w1_a"),
        ("lycoris_time_embed_time_proj.lokr_w2_a", "time_embed.time_proj", "lokr_w2_a"),
        ("lycoris_condition_embedder.alpha", "condition_embedder", "alpha"),
        ("diffusion_model.decoder.layers.1.cross_attn.k_proj.diff", "layers.1.cross_attn.k_proj", "difference"),
        ("transformer.layers.1.self_attn.to_v.lora_A.weight", "layers.1.self_attn.v_proj", "down"),
    ],
)
def test_names_are_understood(key, module, part):
    read = read_key(key)
    assert (read.module, read.part) == (module, part)


@pytest.mark.parametrize(
    "key",
    [
        "lycoris_encoder_layers_0_mlp_up_proj.alpha",
        "lora_te_layers_0_mlp_up_proj.alpha",
        "lycoris_layers_x_mlp_up_proj.alpha",
        "encoder.lyric_encoder.layers.0.mlp.up_proj.lora_A.weight",
        "base_model.model.layers.0/../../etc.lora_A.weight",
        "alpha",
        "",
    ],
)
def test_other_names_are_refused(key):
    with pytest.raises(AdapterError):
        read_key(key)
