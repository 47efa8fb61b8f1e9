"""Saved files, outputs and gradients are those of peft and LyCORIS, whose plain forward passes are the authority."""

import copy
import json

import attrs
import peft
import pytest
import torch
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.wrapper import LycorisNetwork
from safetensors import safe_open
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_core.model.names import module_path
from torch import nn

CASES = {
    "lora": ("lora", LoraConfig(rank=4, alpha=10, dropout=0.0)),
    "rslora": ("lora", LoraConfig(rank=4, alpha=10, dropout=0.0, use_rslora=True)),
    "pissa": ("lora", LoraConfig(rank=4, alpha=10, dropout=0.0, init_weights="pissa")),
    "dora": ("dora", DoraConfig(rank=4, alpha=10, dropout=0.0)),
    "rsdora": ("dora", DoraConfig(rank=4, alpha=10, dropout=0.0, use_rslora=True)),
    "lokr": ("lokr", LokrConfig()),
    "lokr split": ("lokr", LokrConfig(rank=3, alpha=5)),
    "lokr both split": ("lokr", LokrConfig(rank=2, alpha=5, decompose_both=True)),
    "lokr factor": ("lokr", LokrConfig(rank=2, alpha=5, factor=4)),
    "lokr scalar": ("lokr", LokrConfig(rank=3, alpha=5, use_scalar=True)),
    "lokr rs": ("lokr", LokrConfig(rank=3, alpha=5, rs_lora=True)),
    "lokr rs whole": ("lokr", LokrConfig(rs_lora=True)),
    "lokr full": ("lokr", LokrConfig(rank=2, full_matrix=True)),
    "lokr decomposed": ("lokr", LokrConfig(weight_decompose=True)),
    "lokr split decomposed": ("lokr", LokrConfig(rank=3, alpha=5, weight_decompose=True, use_scalar=True)),
    "loha wide": ("loha", LohaConfig(rank=8, alpha=12)),
    "loha narrow": ("loha", LohaConfig(rank=2, alpha=5)),
    "loha scalar": ("loha", LohaConfig(rank=8, alpha=12, use_scalar=True)),
    "loha rs": ("loha", LohaConfig(rank=2, alpha=5, rs_lora=True)),
    "oft": ("oft", OftConfig(block_size=16)),
    "coft": ("oft", OftConfig(block_size=16, coft=True, eps=0.5)),
}
UNBALANCED = ("lokr", LokrConfig(rank=3, alpha=5, factor=4, unbalanced_factorization=True))


def near(found, expected, relative=1e-5):
    return (found - expected).abs().max() <= relative * expected.abs().max()


def layer_of(decoder, name):
    return decoder.get_submodule(f"transformer.{module_path(name)}")


def samples(target):
    return torch.randn(2, 7, target.in_features, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("case", CASES)
def test_a_saved_file_gives_the_same_outputs_in_the_library(decoder, attach, few, stir, plain, tmp_path, case):
    adapter = attach(*CASES[case], few)
    stir(adapter)
    adapter.save(tmp_path, metadata={})
    tree = plain.read(tmp_path)
    for target in few:
        x = samples(target)
        adapted, base = tree.get_submodule(target.name)(x), x @ plain.weights[target.name].T
        assert near(layer_of(decoder, target.name)(x), adapted)
        assert not near(adapted, base, 1e-3)


def state_of(adapter, target):
    prefix = f"{target.name}."
    return {k.removeprefix(prefix): w for k, w in adapter.state_dict().items() if k.startswith(prefix)}


def in_peft(method, weight, state, **settings):
    """Return peft's own layer with our parameters, and those parameters by our names."""
    tree = nn.ModuleDict({"it": nn.Linear(*weight.T.shape, bias=False)})
    tree["it"].weight.data.copy_(weight)
    peft.inject_adapter_in_model(method(target_modules=["it"], **settings), tree)
    own = {k.replace(".default", ""): p for k, p in tree["it"].named_parameters() if p.requires_grad}
    for name, parameter in own.items():
        parameter.data.copy_(state[name])
    return tree["it"], own


def in_lycoris(module, weight, state, config, **settings):
    """Return LyCORIS's own module, which makes the whole weight, with our parameters."""
    linear = nn.Linear(*weight.T.shape, bias=False).requires_grad_(False)
    linear.weight.data.copy_(weight)
    update = module("it", linear, lora_dim=config.rank, alpha=config.alpha, bypass_mode=False, **settings)
    own = dict(update.named_parameters())
    for name, parameter in own.items():
        parameter.data.copy_(state[name])
    return update, own


def library_layer(name, config, weight, state):
    settings = attrs.asdict(config)
    if name == "dora":
        chosen = {"r": config.rank, "lora_alpha": config.alpha, "use_rslora": config.use_rslora, "use_dora": True}
        return in_peft(peft.LoraConfig, weight, state, **chosen)
    if name == "oft":
        return in_peft(peft.OFTConfig, weight, state, oft_block_size=config.block_size)
    for ours in ("rank", "alpha", "use_tucker"):
        del settings[ours]
    if name == "lokr" and not any(key.endswith("_a") for key in state):
        settings["rs_lora"] = False  # LyCORIS's readers take the scale of whole factors for 1
    return in_lycoris({"lokr": LokrModule, "loha": LohaModule}[name], weight, state, config, **settings)


@pytest.mark.parametrize(
    ("name", "config"), [*(made for made in CASES.values() if made[0] != "lora" and made != CASES["coft"]), UNBALANCED]
)
def test_outputs_and_gradients_are_those_of_the_library(decoder, attach, few, stir, plain, name, config):
    adapter = attach(name, config, few)
    stir(adapter)
    parameters = dict(adapter.parameters())
    for target in few:
        theirs, their_parameters = library_layer(name, config, plain.weights[target.name], state_of(adapter, target))
        results = []
        for layer in (layer_of(decoder, target.name), theirs):
            x = samples(target).requires_grad_()
            output = layer(x)
            (output * torch.linspace(-1, 1, output.shape[-1])).square().sum().backward()
            results.append((output, x.grad))
        for found, expected in zip(*results, strict=True):
            assert near(found, expected)
        for key, parameter in their_parameters.items():
            assert near(parameters[f"{target.name}.{key}"].grad, parameter.grad), key


def test_pissa_has_the_gradients_of_a_weight_without_its_components(decoder, attach, few, stir, plain):
    adapter = attach(*CASES["pissa"], few)
    stir(adapter)
    parameters = dict(adapter.parameters())
    for target in few:
        state = state_of(adapter, target)
        residue = plain.weights[target.name] + 2.5 * state["lora_B.start"] @ state["lora_A.start"]
        theirs, their_parameters = in_peft(peft.LoraConfig, residue, state, r=4, lora_alpha=10)
        x = samples(target)
        for layer in (layer_of(decoder, target.name), theirs):
            layer(x).square().sum().backward()
        assert near(layer_of(decoder, target.name)(x), theirs(x))
        assert all(near(parameters[f"{target.name}.{key}"].grad, p.grad) for key, p in their_parameters.items())


# Names and headers


def names_in(folder):
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        keys = opened.keys()
        return file.name, sorted(key.removeprefix("base_model.model.") for key in keys), opened.metadata()


@pytest.mark.parametrize(
    ("case", "file", "parts"),
    [
        ("lokr", "lokr_weights.safetensors", ["alpha", "lokr_w1", "lokr_w2"]),
        ("lokr split", "lokr_weights.safetensors", ["alpha", "lokr_w1", "lokr_w2_a", "lokr_w2_b"]),
        ("lokr decomposed", "lokr_weights.safetensors", ["alpha", "dora_scale", "lokr_w1", "lokr_w2"]),
        ("loha scalar", "loha_weights.safetensors", ["alpha", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]),
    ],
)
def test_lycoris_files_have_lycoris_names(attach, few, tmp_path, case, file, parts):
    attach(*CASES[case], few[:1]).save(tmp_path, metadata={"run": "r"})
    found, keys, metadata = names_in(tmp_path)
    assert (found, keys) == (file, [f"lycoris_layers_1_self_attn_q_proj.{part}" for part in parts])
    algorithm = CASES[case][0]
    assert (metadata["format"], metadata["algo"], metadata["run"]) == ("lycoris", algorithm, "r")
    settings = json.loads(metadata[f"{algorithm}_config"])
    assert settings["linear_dim"] == CASES[case][1].rank
    assert settings["linear_alpha"] == CASES[case][1].alpha
    assert settings["factor"] == -1


@pytest.mark.parametrize(
    ("case", "parts"),
    [("dora", ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"]), ("oft", ["oft_R.weight"])],
)
def test_peft_files_have_pefts_names(attach, few, tmp_path, case, parts):
    attach(*CASES[case], few[:1]).save(tmp_path, metadata={"run": "r"})
    file, keys, metadata = names_in(tmp_path)
    assert (file, keys) == ("adapter_model.safetensors", [f"layers.1.self_attn.q_proj.{part}" for part in parts])
    assert (metadata["format"], metadata["run"]) == ("pt", "r")


def test_dora_folders_say_so_and_have_the_scale_folded_in(attach, few, stir, tmp_path):
    adapter = attach(*CASES["dora"], few)
    stir(adapter)
    adapter.save(tmp_path, metadata={})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["use_dora"], config["r"], config["lora_alpha"]) == (True, 4, 4)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as opened:
        diffusers = json.loads(opened.metadata()["lora_adapter_metadata"])
        up = opened.get_tensor(f"base_model.model.{few[0].name}.lora_B.weight")
    assert (diffusers["transformer.use_dora"], diffusers["transformer.lora_alpha"]) == (True, 4)
    assert torch.allclose(up, 2.5 * adapter.state_dict()[f"{few[0].name}.lora_B.weight"])


def test_building_an_adapter_leaves_lycoris_as_it_was(attach, few):
    before = copy.deepcopy({key: value for key, value in vars(LycorisNetwork).items() if key.isupper()})
    attach(*CASES["lokr"], few)
    assert before == {key: value for key, value in vars(LycorisNetwork).items() if key.isupper()}
