"""The tiny checkpoint: everything a real one shows from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AceStepPipeline
from safetensors.torch import load_file
from sidestep_core.model.headers import read_header
from sidestep_core.model.layout import find_models, identity, resolve_model
from sidestep_core.model.load import load_text_encoder, load_vae
from sidestep_core.model.names import to_diffusers, to_original
from sidestep_core.model.tiny import write_tiny


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("several")
    write_tiny(root, variants=("base", "turbo", "xl-turbo"), layers=3, dtype="bfloat16", seed=5)
    return root


def test_it_lacks_nothing(tiny_checkpoint, tiny_diffusers):
    for root in (tiny_checkpoint, tiny_diffusers):
        (model,) = find_models(root)
        assert model.missing == ()
        assert model.variant == "base"


def test_it_has_the_files_of_the_original_layout(tiny_checkpoint):
    files = {str(file.relative_to(tiny_checkpoint)) for file in tiny_checkpoint.rglob("*") if file.is_file()}
    assert files >= {
        "acestep-v15-base/config.json",
        "acestep-v15-base/model.safetensors",
        "acestep-v15-base/silence_latent.pt",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "Qwen3-Embedding-0.6B/config.json",
        "Qwen3-Embedding-0.6B/model.safetensors",
        "Qwen3-Embedding-0.6B/tokenizer.json",
    }


def test_its_weights_have_the_original_names_and_both_renamings_agree(tiny_checkpoint):
    keys = list(read_header(tiny_checkpoint / "acestep-v15-base" / "model.safetensors"))
    assert {key.split(".")[0] for key in keys} == {
        "decoder",
        "encoder",
        "tokenizer",
        "detokenizer",
        "null_condition_emb",
    }
    assert all(to_original(*to_diffusers(key)) == key for key in keys)
    assert len({to_diffusers(key) for key in keys}) == len(keys)
    assert not any(".to_q." in key or "norm_k" in key or "_conv" in key for key in keys)


def test_no_weight_is_a_constant(tiny_checkpoint):
    weights = load_file(tiny_checkpoint / "acestep-v15-base" / "model.safetensors")
    assert [key for key, value in weights.items() if value.numel() > 1 and value.float().std() == 0] == []


def test_several_variants_are_told_apart(several):
    models = {model.name: model for model in find_models(several)}
    assert {name: model.variant for name, model in models.items()} == {
        "acestep-v15-base": "base",
        "acestep-v15-turbo": "turbo",
        "acestep-v15-xl-turbo": "xl-turbo",
    }
    assert len({identity(model) for model in models.values()}) == 3
    assert {model.dtype for model in models.values()} == {"bf16"}
    assert {model.dims.num_layers for model in models.values()} == {3}


def test_an_xl_model_is_wider_than_its_encoder_and_sharded(several):
    model = resolve_model(several, "xl-turbo")
    assert model.dims.hidden_size > model.dims.condition_size
    assert model.dims.num_heads * model.dims.head_dim > model.dims.hidden_size
    index = json.loads((model.path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == 2
    assert model.parameters == sum(
        value.numel() for file in model.path.glob("*.safetensors") for value in load_file(file).values()
    )


def test_silence_is_stored_as_ace_step_stores_it(tiny_checkpoint):
    silence = torch.load(tiny_checkpoint / "acestep-v15-base" / "silence_latent.pt", weights_only=True)
    assert silence.shape == (1, 64, 15000)
    assert silence.dtype == torch.bfloat16
    assert silence[0, :, 100:].std(dim=1).max() == 0


def test_one_seed_writes_the_same_weights_and_leaves_the_random_state_alone(several, tmp_path):
    before = torch.random.get_rng_state()
    write_tiny(tmp_path, variants=("base",), layers=3, dtype="bfloat16", seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    for file in ("acestep-v15-base/model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / file).read_bytes() == (several / file).read_bytes()


def test_texts_end_with_the_end_mark_and_come_back(tiny_checkpoint):
    tokenizer, _ = load_text_encoder(resolve_model(tiny_checkpoint, None))
    text = "# Caption\nWärme, 雨 and 120 bpm\n[Verse 1]"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text + "<|endoftext|>"
    assert tokenizer("<|endoftext|>").input_ids == [tokenizer.pad_token_id] * 2


def test_different_texts_have_different_states(tiny_checkpoint):
    tokenizer, encoder = load_text_encoder(resolve_model(tiny_checkpoint, None))
    with torch.no_grad():
        one, two = (encoder(tokenizer(text, return_tensors="pt").input_ids)[0][0, -1] for text in ("calm", "loud"))
    assert (one - two).abs().max() > 0.1


def test_latents_of_music_are_about_as_wide_as_noise(tiny_checkpoint):
    vae = load_vae(resolve_model(tiny_checkpoint, None))
    t = torch.arange(24000) / 48000
    audio = 0.5 * torch.sin(2 * torch.pi * 110 * t) * torch.exp(-10 * t)
    with torch.no_grad():
        latents = vae.encode(audio.expand(1, 2, -1)).latent_dist
        decoded = vae.decode(latents.mean).sample
    assert 0.2 < latents.mean.std() < 5
    assert 0 < latents.std.mean() < 0.2
    assert 0.001 < decoded.std() < 1


def test_the_diffusers_copy_is_a_working_pipeline(tiny_diffusers):
    pipeline = AceStepPipeline.from_pretrained(tiny_diffusers, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    audio = pipeline(
        prompt="warm piano", lyrics="[Instrumental]", audio_duration=1.0, num_inference_steps=2, output_type="latent"
    ).audios
    assert torch.as_tensor(audio).isfinite().all()


def test_writing_draws_nothing_and_warns_nothing(tmp_path, capfd, recwarn):
    write_tiny(tmp_path, diffusers=tmp_path / "pipeline")
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
