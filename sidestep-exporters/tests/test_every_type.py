"""Every adapter type through every target that holds it: proven, and found again by the libraries themselves."""

import json

import peft
import pytest
import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel
from lycoris.wrapper import create_lycoris_from_weights
from safetensors import safe_open
from sidestep_core.errors import ExportError
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import read_adapter
from sidestep_core.model.folder import read_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from torch import nn

CASES = ["lora", "pissa", "dora", "lokr", "lokr split", "lokr with lengths", "loha", "oft", "coft"]
TARGETS = ["native", "comfyui", "lora", "merged"]
QUICK = {"lora", "dora", "lokr with lengths", "loha", "oft"}  # each of the five types


def every(*targets):
    """Return all types with all targets; those that other tests go through as well are slow."""
    for case in CASES:
        for target in targets:
            quick = case in QUICK and target in ("native", "comfyui")
            yield pytest.param(case, target, marks=() if quick else pytest.mark.slow)


ROUNDING = {"fp32": 1e-5, "bf16": 2e-2}


def tree(weights):
    """Return frozen projections with the model's weights, under their original names."""
    root = nn.Module()
    for name, weight in weights.items():
        parent, *path = root, *name.split(".")
        for part in path[:-1]:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        linear = nn.Linear(*weight.T.shape, bias=False)
        linear.weight.data.copy_(weight)
        parent.add_module(path[-1], linear.requires_grad_(False))
    return root


@torch.no_grad()
def outputs_less_base(module, weight):
    """Return what a layer adds to each unit input, by its own forward pass."""
    return module(torch.eye(weight.shape[1])).T - weight


def from_peft(folder, weights):
    host = peft.PeftModel.from_pretrained(tree(weights), folder).base_model.model.eval()
    return {name: outputs_less_base(host.get_submodule(name), weight) for name, weight in weights.items()}


def from_lycoris(file, weights):
    host = tree(weights)
    with torch.no_grad():
        network, _ = create_lycoris_from_weights(1.0, str(file), host)
    network.apply_to()
    return {name: outputs_less_base(host.get_submodule(name), weight) for name, weight in weights.items()}


def from_core(file, weights, model):
    return dict(deltas(read_adapter(file), BaseWeights(model)))


def from_model(folder, weights):
    decoder = load_decoder(read_model(folder, folder.parent))
    return {
        name: decoder.get_submodule(f"transformer.{module_path(name)}").weight - weight
        for name, weight in weights.items()
    }


def found_in(path, target, weights, model):
    """Return the differences that a program which has nothing to do with the proof finds in an export."""
    if target == "merged":
        return from_model(path, weights)
    if target == "comfyui":
        return from_core(path, weights, model)
    return from_peft(path, weights) if (path / "adapter_config.json").is_file() else from_lycoris(path, weights)


def near(found, trained, share):
    return (found - trained).abs().max() <= share * trained.abs().max()


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("case", "target"), list(every(*TARGETS)))
def test_the_proof_passes_and_other_code_finds_the_same(trained, weights, model, export, case, target, dtype):
    adapter = trained(case)
    report = export(adapter.folder, target, dtype=dtype)
    assert (report.modules, report.error <= ROUNDING[dtype]) == (len(adapter.deltas), True)
    found = found_in(report.paths[0], target, weights, model)
    for name, delta in adapter.deltas.items():
        assert near(found[name], delta, 2 * ROUNDING[dtype]), name
    # nothing but rounding of the model itself where nothing was trained
    others = found.keys() - adapter.deltas.keys()
    assert all(near(weights[name] + found[name], weights[name], ROUNDING[dtype]) for name in others)


@pytest.mark.parametrize("dtype", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", ["lora", "dora", pytest.param("pissa", marks=pytest.mark.slow)])
def test_the_pipeline_itself_finds_the_same(trained, weights, tiny_diffusers, export, case, dtype):
    adapter = trained(case)
    report = export(adapter.folder, "diffusers", dtype=dtype)
    transformer = AceStepTransformer1DModel.from_pretrained(tiny_diffusers / "transformer").eval()
    parts = ("vae", "text_encoder", "tokenizer", "condition_encoder", "audio_tokenizer", "audio_token_detokenizer")
    pipeline = AceStepPipeline.from_pretrained(tiny_diffusers, transformer=transformer, **dict.fromkeys(parts))
    pipeline.load_lora_weights(report.paths[0].parent)
    for name, delta in adapter.deltas.items():
        layer = pipeline.transformer.get_submodule(module_path(name))
        assert near(outputs_less_base(layer, weights[name]), delta, 2 * ROUNDING[dtype]), name


@pytest.mark.parametrize("case", ["lokr", "loha", "oft"])
def test_what_diffusers_cannot_hold_is_refused_with_a_way_out(trained, export, tmp_path, case):
    with pytest.raises(ExportError, match=f"cannot hold {case} .*; it takes dora, lora; --target lora makes"):
        export(trained(case).folder, "diffusers")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("case", "target"), [("lora", "diffusers"), ("dora", "lora"), ("loha", "merged"), *every("native", "comfyui")]
)
def test_exporting_twice_gives_the_same_bytes(trained, export, tmp_path, case, target):
    first, second = (export(trained(case).folder, target, output=tmp_path / name).paths[0] for name in ("a", "b"))
    files = [path for path in ([first] if first.is_file() else sorted(first.rglob("*"))) if path.is_file()]
    for file in files:
        other = second if first.is_file() else second / file.relative_to(first)
        assert file.read_bytes() == other.read_bytes()


def metadata_of(path):
    file = path if path.is_file() else min(path.rglob("*.safetensors"))
    with safe_open(file, "pt") as opened:
        return opened.metadata()


@pytest.mark.parametrize(("case", "target"), [("dora", target) for target in (*TARGETS, "diffusers")])
def test_every_file_says_what_it_is_and_where_it_comes_from(trained, export, case, target):
    metadata = metadata_of(export(trained(case).folder, target).paths[0])
    assert (metadata["run"], metadata["trigger_tag"], metadata["export_target"]) == ("r1", "ohm", target)
    assert (metadata["base_model"], metadata["base_variant"]) == ("acestep-v15-base", "base")
    assert len(metadata["base_identity"]) == 32
    assert metadata["adapter_type"] == ("lora" if target == "lora" else "dora")
    assert metadata["export_modules"] == "11"
    assert metadata["sidestep_exporters_version"]
    assert all(isinstance(value, str) for value in metadata.values())


def test_a_lycoris_file_says_its_settings_as_ace_step_reads_them(trained, export):
    metadata = metadata_of(export(trained("lokr split").folder, "native").paths[0])
    assert (metadata["format"], metadata["algo"]) == ("lycoris", "lokr")
    assert json.loads(metadata["lokr_config"])["linear_dim"] == 3


@pytest.mark.parametrize("case", ["dora", "lokr with lengths", "oft"])
@pytest.mark.parametrize("target", ["comfyui", "lora", "merged"])
def test_what_depends_on_the_weights_needs_the_model(trained, export, tmp_path, case, target):
    with pytest.raises(ExportError, match=f"target '{target}' needs the weights of the model"):
        export(trained(case).folder, target, model=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", CASES)
def test_native_is_proven_without_the_model_too(trained, export, case):
    assert export(trained(case).folder, "native", model=None).error <= 1e-6
