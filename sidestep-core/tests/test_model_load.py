"""Loading real files: what fits is loaded as asked, what does not is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderOobleck
from safetensors.torch import load_file, save_file
from sidestep_core.errors import CheckpointError
from sidestep_core.model.headers import read_header
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.model.load import load_condition_encoder, load_decoder, load_silence, load_text_encoder, load_vae
from sidestep_core.model.streaming import fill, reader
from torch import Tensor, nn


@pytest.fixture
def copy(tiny_checkpoint, tmp_path) -> Path:
    """A checkpoint folder of its own, to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "root"))


@pytest.fixture
def copy_diffusers(tiny_diffusers, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_diffusers, tmp_path / "pipe"))


@pytest.fixture(scope="session")
def sharded(make_checkpoint) -> Path:
    return make_checkpoint(variants=("xl-base",), dtype="bfloat16")


def model(root: Path) -> ModelFolder:
    return resolve_model(root, None)


def edit(root: Path, change) -> ModelFolder:
    """Let `change` work on the tensors of the model's weight file."""
    file = root / "acestep-v15-base" / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return model(root)


def message(load, folder: ModelFolder) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


# What is loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_in_the_type_asked_for(tiny_checkpoint, dtype):
    decoder = load_decoder(model(tiny_checkpoint), dtype=dtype)
    assert {value.dtype for value in decoder.state_dict().values()} == {dtype}
    assert {value.device.type for value in decoder.state_dict().values()} == {"cpu"}


def test_sharded_bfloat16_weights_are_loaded_exactly(sharded):
    folder = model(sharded)
    decoder = load_decoder(folder)
    stored: dict[str, Tensor] = {}
    for file in sorted(folder.path.glob("*.safetensors")):
        stored |= load_file(file)
    assert folder.dtype == "bf16"
    weight = decoder.transformer.layers[1].cross_attn.to_out[0].weight
    assert torch.equal(weight, stored["decoder.layers.1.cross_attn.o_proj.weight"].float())
    assert torch.equal(decoder.transformer.proj_in_conv.weight, stored["decoder.proj_in.1.weight"].float())
    assert torch.equal(decoder.null_condition, stored["null_condition_emb"].float())


def test_both_layouts_load_the_same_decoder(tiny_checkpoint, tiny_diffusers):
    one, two = load_decoder(model(tiny_checkpoint)).state_dict(), load_decoder(model(tiny_diffusers)).state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_sharded_diffusers_folder_is_loaded(copy_diffusers):
    expected = load_decoder(model(copy_diffusers)).state_dict()
    part = copy_diffusers / "transformer"
    tensors = load_file(part / "diffusion_pytorch_model.safetensors")
    (part / "diffusion_pytorch_model.safetensors").unlink()
    places = {key: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(tensors)}
    for name in set(places.values()):
        save_file({key: value for key, value in tensors.items() if places[key] == name}, part / name)
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    again = load_decoder(model(copy_diffusers)).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in expected.items())


def test_only_what_the_decoder_needs_is_read(copy):
    def drop_the_rest(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if key.split(".")[0] in ("encoder", "tokenizer", "detokenizer")]:
            del tensors[key]

    assert load_decoder(edit(copy, drop_the_rest)).dims.num_layers == 4


def test_audio_tokenizers_beside_the_encoder_are_ignored(tiny_checkpoint):
    keys = load_file(tiny_checkpoint / "acestep-v15-base" / "model.safetensors")
    assert any(key.startswith("detokenizer.") for key in keys)
    assert load_condition_encoder(model(tiny_checkpoint)).text_projector.weight.shape == (64, 64)


def test_weights_do_not_hang_on_the_file(copy):
    folder = model(copy)
    decoder = load_decoder(folder)
    before = decoder.transformer.condition_embedder.weight.clone()
    os.truncate(folder.path / "model.safetensors", 0)
    assert torch.equal(decoder.transformer.condition_embedder.weight, before)


# What does not fit


def test_missing_tensors_are_counted_and_three_are_named(copy):
    def drop(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if ".mlp." in key and key.startswith("decoder.")]:
            del tensors[key]

    assert message(load_decoder, edit(copy, drop)) == (
        "acestep-v15-base: tensors do not fit the config: 12 missing (decoder.layers.0.mlp.gate_proj.weight, "
        "decoder.layers.0.mlp.up_proj.weight, decoder.layers.0.mlp.down_proj.weight, ...)"
    )


def test_a_renamed_tensor_is_one_missing_and_one_not_expected(copy):
    text = message(
        load_decoder, edit(copy, lambda t: t.update({"decoder.norm.weight": t.pop("decoder.norm_out.weight")}))
    )
    assert text.endswith("1 missing (decoder.norm_out.weight); 1 not expected (decoder.norm.weight)")


def test_a_tensor_of_no_known_component_is_not_expected(copy):
    text = message(load_decoder, edit(copy, lambda t: t.update(lora=torch.zeros(1))))
    assert text.endswith(": 1 not expected (lora)")


def test_a_decoder_tensor_without_its_prefix_does_not_count_as_the_decoders(copy):
    text = message(load_decoder, edit(copy, lambda t: t.update({"norm_out.weight": t.pop("decoder.norm_out.weight")})))
    assert text.endswith("1 missing (decoder.norm_out.weight); 1 not expected (norm_out.weight)")


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(copy):
    text = message(load_decoder, edit(copy, lambda t: t.update({"decoder.norm_out.weight": torch.zeros(63)})))
    assert text.endswith(": 1 of the wrong shape (decoder.norm_out.weight is [63], not [64])")


def test_a_config_of_another_size_is_noticed(copy):
    config = copy / "acestep-v15-base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 100}))
    text = message(load_decoder, model(copy))
    assert "12 of the wrong shape (decoder.layers." in text
    assert "is [192, 64], not [100, 64]" in text


def test_a_diffusers_folder_is_checked_under_its_own_names(copy_diffusers):
    file = copy_diffusers / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["layers.0.self_attn.to_q.weight"]
    save_file(tensors, file)
    assert message(load_decoder, model(copy_diffusers)).endswith("1 missing (layers.0.self_attn.to_q.weight)")


@pytest.mark.parametrize(
    "change", [lambda t: t.pop("null_condition_emb"), lambda t: t.update(null_condition_emb=Tensor(1, 1, 3))]
)
def test_the_null_condition_is_checked_too(copy, change):
    assert "null_condition_emb" in message(load_decoder, edit(copy, change))


def test_a_missing_tensor_of_the_condition_encoder_is_named(copy):
    text = message(load_condition_encoder, edit(copy, lambda t: t.pop("encoder.text_projector.weight")))
    assert text.endswith("1 missing (encoder.text_projector.weight)")


def test_a_missing_shard_is_named(sharded, tmp_path):
    root = Path(shutil.copytree(sharded, tmp_path / "root"))
    (root / "acestep-v15-xl-base" / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors cannot be read: No such file" in message(load_decoder, model(root))


def test_no_weights_at_all_is_said(copy):
    (copy / "acestep-v15-base" / "model.safetensors").unlink()
    assert "has no safetensors weights" in message(load_decoder, model(copy))


def test_weights_cut_short_are_refused(copy):
    folder = model(copy)
    file = folder.path / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    assert "model.safetensors is cut short" in message(load_decoder, folder)


# Silence


@pytest.mark.parametrize("load", [load_decoder, load_condition_encoder, load_silence])
def test_a_missing_silence_latent_is_said_with_both_places(copy, load):
    (copy / "acestep-v15-base" / "silence_latent.pt").unlink()
    text = message(load, model(copy))
    assert f"no silence_latent.pt in {copy / 'acestep-v15-base'} or {copy}" in text


def test_silence_is_read_from_the_root_as_well(copy):
    expected = load_silence(model(copy))
    (copy / "acestep-v15-base" / "silence_latent.pt").rename(copy / "silence_latent.pt")
    assert torch.equal(load_silence(model(copy)), expected)
    assert expected.shape == (15000, 64)


def test_a_silence_latent_runs_no_code(copy, tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    (copy / "acestep-v15-base" / "silence_latent.pt").write_bytes(pickle.dumps(Trap()))
    assert "is no torch file of tensors" in message(load_silence, model(copy))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut short", b"noise"])
def test_a_damaged_silence_latent_is_refused(copy, data):
    (copy / "acestep-v15-base" / "silence_latent.pt").write_bytes(data)
    assert "silence_latent.pt is no torch file of tensors" in message(load_silence, model(copy))


@pytest.mark.parametrize("value", [torch.zeros(1, 63, 100), torch.zeros(64, 100), torch.zeros(2, 64, 100)])
def test_a_silence_latent_of_another_shape_is_refused(copy, value):
    torch.save(value, copy / "acestep-v15-base" / "silence_latent.pt")
    assert "is not one of 64 channels" in message(load_silence, model(copy))


def test_a_silence_latent_that_is_no_tensor_is_refused(copy):
    torch.save([1, 2], copy / "acestep-v15-base" / "silence_latent.pt")
    assert "holds no tensor" in message(load_silence, model(copy))


def test_a_pipeline_without_a_silence_latent_is_refused(copy_diffusers):
    file = copy_diffusers / "condition_encoder" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["silence_latent"]
    save_file(tensors, file)
    assert "has no silence_latent" in message(load_decoder, model(copy_diffusers))


# VAE and text encoder


@pytest.mark.parametrize("root", ["tiny_checkpoint", "tiny_diffusers"])
def test_the_vae_encodes_and_decodes_at_the_real_rate(request, root):
    vae = load_vae(model(request.getfixturevalue(root)))
    with torch.no_grad():
        latents = vae.encode(torch.zeros(1, 2, 5 * 1920)).latent_dist.mode()
        audio = vae.decode(latents).sample
    assert latents.shape == (1, 64, 5)
    assert audio.shape == (1, 2, 5 * 1920)
    assert audio.isfinite().all()


def test_the_vae_equals_the_one_diffusers_loads(tiny_checkpoint):
    ours = load_vae(model(tiny_checkpoint))
    theirs = AutoencoderOobleck.from_pretrained(tiny_checkpoint / "vae", torch_dtype=torch.float32)
    audio = torch.randn(1, 2, 3 * 1920, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours.encode(audio).latent_dist.mean, theirs.encode(audio).latent_dist.mean)


def test_a_missing_vae_is_said(copy):
    shutil.rmtree(copy / "vae")
    assert "no VAE in" in message(load_vae, model(copy))


def test_a_vae_without_weights_or_config_is_refused(copy):
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "missing (encoder.conv1.bias" in message(load_vae, model(copy))
    (copy / "vae" / "config.json").unlink()
    assert "the config of the VAE in" in message(load_vae, model(copy))


@pytest.mark.parametrize("root", ["tiny_checkpoint", "tiny_diffusers"])
def test_the_text_encoder_reads_text(request, root):
    tokenizer, encoder = load_text_encoder(model(request.getfixturevalue(root)))
    ids = tokenizer("a warm piano", return_tensors="pt").input_ids
    with torch.no_grad():
        assert encoder(ids).last_hidden_state.shape == (1, ids.shape[1], 64)
        assert encoder.get_input_embeddings()(ids).shape == (1, ids.shape[1], 64)
    assert tokenizer.decode(ids[0, -1:]) == "<|endoftext|>"


def test_the_text_encoder_comes_in_the_type_asked_for(tiny_checkpoint):
    _, encoder = load_text_encoder(model(tiny_checkpoint), dtype=torch.bfloat16)
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("load", [load_decoder, load_condition_encoder, load_vae, load_text_encoder])
def test_loading_writes_and_warns_nothing(tiny_checkpoint, load, capfd, recwarn):
    load(model(tiny_checkpoint), dtype=torch.bfloat16)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_missing_text_encoder_is_said(copy):
    shutil.rmtree(copy / "Qwen3-Embedding-0.6B")
    assert "no text encoder in" in message(load_text_encoder, model(copy))


def test_a_text_encoder_that_lacks_tensors_is_refused(copy):
    file = copy / "Qwen3-Embedding-0.6B" / "model.safetensors"
    tensors = load_file(file)
    del tensors["layers.0.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    assert "lacks 1 tensors: layers.0.mlp.up_proj.weight" in message(load_text_encoder, model(copy))


def test_a_damaged_text_encoder_is_refused(copy):
    (copy / "Qwen3-Embedding-0.6B" / "config.json").write_text("{")
    assert "cannot be loaded" in message(load_text_encoder, model(copy))


# Memory


def test_filling_a_module_holds_its_weights_once(tmp_path):
    save_file(
        {f"{i}.weight": torch.ones(1024, 1024, dtype=torch.bfloat16) for i in range(128)}, tmp_path / "x.safetensors"
    )
    code = (
        "import resource, sys, torch; from pathlib import Path; from torch import nn\n"
        "from sidestep_core.model.headers import read_header; from sidestep_core.model.streaming import fill, reader\n"
        "with torch.device('meta'): m = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(128)))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); fill(m, read_header(Path(sys.argv[1])), 'x', reader('cpu', torch.float32))\n"
        "print((peak() - before) / sum(p.nbytes for p in m.parameters()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.safetensors")]
    ratio = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert ratio < 1.1


def test_a_file_that_went_away_after_its_header_was_read_is_reported(tmp_path):
    file = tmp_path / "x.safetensors"
    save_file({"weight": torch.ones(2, 2)}, file)
    header = read_header(file)
    file.unlink()
    with torch.device("meta"):
        module = nn.Linear(2, 2, bias=False)
    with pytest.raises(CheckpointError, match=r"x\.safetensors cannot be read"):
        fill(module, header, "x", reader("cpu", torch.float32))
