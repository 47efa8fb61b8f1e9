"""LoRA: shapes, scale, dropout, rsLoRA, LoRA+ and the start from a weight's own components."""

import json

import attrs
import pytest
import torch
from sidestep_adapters.configs import DoraConfig, LoraConfig
from sidestep_core.errors import AdapterError
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path

CONFIG = LoraConfig(rank=4, alpha=8, dropout=0.0)
PISSA = attrs.evolve(CONFIG, init_weights="pissa")


def near(found, expected, relative=1e-5):
    return (found - expected).abs().max() <= relative * expected.abs().max()


# Shapes and scale


def test_names_are_the_original_ones_in_the_order_of_the_targets(attach, targets):
    names = [name for name, _ in attach("lora", CONFIG, targets).parameters()]
    assert names == [f"{t.name}.lora_{part}.weight" for t in targets for part in "AB"]


def test_shapes_follow_the_rank(attach, targets):
    parameters = dict(attach("lora", attrs.evolve(CONFIG, rank=5), targets).parameters())
    for target in targets:
        assert parameters[f"{target.name}.lora_A.weight"].shape == (5, target.in_features)
        assert parameters[f"{target.name}.lora_B.weight"].shape == (target.out_features, 5)


@pytest.mark.parametrize(("settings", "scale"), [({"alpha": 10}, 2.5), ({"alpha": 10, "use_rslora": True}, 5.0)])
def test_alpha_over_the_rank_or_its_root_is_the_scale(attach, targets, stir, settings, scale):
    adapter = attach("lora", attrs.evolve(CONFIG, **settings), targets)
    stir(adapter)
    state = adapter.state_dict()
    for name, delta in adapter.deltas():
        assert near(delta, scale * state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"])


def test_modules_can_have_a_rank_and_alpha_of_their_own(attach, targets, stir, tmp_path):
    own = [attrs.evolve(t, rank=2, alpha=3) if "down_proj" in t.name else t for t in targets]
    adapter = attach("lora", CONFIG, own)
    stir(adapter)
    down, state = targets[-1].name, adapter.state_dict()
    product = state[f"{down}.lora_B.weight"] @ state[f"{down}.lora_A.weight"]
    assert torch.allclose(dict(adapter.deltas())[down], 1.5 * product)
    adapter.save(tmp_path, metadata={})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["rank_pattern"] == {t.name: 2 for t in targets if "down_proj" in t.name}


# Training


@pytest.mark.parametrize(("name", "config"), [("lora", CONFIG), ("lora", PISSA), ("dora", DoraConfig(rank=4))])
def test_dropout_acts_in_training_only(decoder, attach, targets, stir, inputs, name, config):
    stir(attach(name, attrs.evolve(config, dropout=0.5), targets))
    with torch.no_grad():
        still = [decoder(*inputs()) for _ in range(2)]
        decoder.train()
        moving = [decoder(*inputs()) for _ in range(2)]
    assert still[0].equal(still[1])
    assert not moving[0].equal(moving[1])


@pytest.mark.parametrize("config", [CONFIG, PISSA])
def test_what_dropout_drops_is_the_update_alone(decoder, attach, targets, inputs, config):
    with torch.no_grad():
        before = decoder(*inputs())
        attach("lora", attrs.evolve(config, dropout=0.5), targets)
        assert near(decoder.train()(*inputs()), before)


@pytest.mark.parametrize(("name", "config"), [("lora", CONFIG), ("dora", DoraConfig())])
def test_one_optimizer_group_holds_everything(attach, few, name, config):
    adapter = attach(name, config, few)
    (group,) = adapter.groups(3e-4)
    assert group["lr"] == 3e-4
    assert [id(p) for p in group["params"]] == [id(p) for _, p in adapter.parameters()]


@pytest.mark.parametrize(("name", "config"), [("lora", CONFIG), ("lora", PISSA), ("dora", DoraConfig())])
def test_loraplus_gives_b_a_rate_of_its_own(attach, few, name, config):
    adapter = attach(name, attrs.evolve(config, loraplus_lr_ratio=16.0), few)
    rates = {id(p): group["lr"] for group in adapter.groups(1e-4) for p in group["params"]}
    found = {key.removeprefix(few[0].name): rates[id(p)] for key, p in adapter.parameters() if few[0].name in key}
    assert found.pop(".lora_B.weight") == pytest.approx(16e-4)
    assert set(found.values()) == {1e-4}
    assert len(rates) == len(adapter.parameters())


# PiSSA


def test_pissa_leaves_the_frozen_weights_alone(model, decoder, attach, targets):
    attach("lora", PISSA, targets)
    original = load_decoder(model)
    for target in targets:
        path = f"transformer.{module_path(target.name)}"
        assert decoder.get_submodule(path).weight.equal(original.get_submodule(path).weight)


def test_pissa_starts_at_the_largest_components(attach, few, plain):
    adapter = attach("lora", PISSA, few)
    state = adapter.state_dict()
    for target in few:
        weight = plain.weights[target.name]
        start = 2 * state[f"{target.name}.lora_B.weight"] @ state[f"{target.name}.lora_A.weight"]
        best = torch.linalg.svdvals(weight)[4:].norm()
        assert (weight - start).norm() < 1.01 * best


def test_pissa_splits_the_components_evenly(attach, few):
    state = attach("lora", PISSA, few).state_dict()
    for target in few:
        lengths = (state[f"{target.name}.lora_A.weight"].norm(dim=1), state[f"{target.name}.lora_B.weight"].norm(dim=0))
        assert torch.allclose(*lengths, rtol=1e-4)


def test_pissa_files_are_relative_to_the_original_weight(attach, few, stir, plain, tmp_path):
    adapter = attach("lora", PISSA, few)
    start = {key: weight.clone() for key, weight in adapter.state_dict().items()}
    stir(adapter)
    adapter.save(tmp_path, metadata={})
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 8
    now, read = adapter.state_dict(), plain.deltas(tmp_path)
    for target in few:
        product, before = (
            2 * state[f"{target.name}.lora_B.weight"] @ state[f"{target.name}.lora_A.weight"] for state in (now, start)
        )
        assert near(read[target.name], product - before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_pissa_adapter_changes_nothing_in_any_dtype(model, attach, targets, inputs, dtype):
    decoder = load_decoder(model, dtype=dtype)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        before = decoder(*inputs(decoder))
        attach("lora", PISSA, targets, decoder=decoder)
        assert near(decoder(*inputs(decoder)), before, 1e-5 if dtype == torch.float32 else 1e-2)


def test_a_rank_above_that_of_the_weight_still_trains_every_parameter(decoder, attach, few, inputs):
    adapter = attach("lora", attrs.evolve(PISSA, rank=200), few)
    optimizer = torch.optim.Adam(adapter.groups(1e-2))
    start = {key: weight.clone() for key, weight in adapter.parameters()}
    for _ in range(2):
        decoder(*inputs()).square().mean().backward()
        optimizer.step()
    assert not any(weight.equal(start[key]) for key, weight in adapter.parameters())


def test_pissa_state_carries_its_start(model, attach, few, stir):
    adapter = attach("lora", PISSA, few, seed=1)
    stir(adapter)
    other = attach("lora", PISSA, few, seed=2, decoder=load_decoder(model))
    other.load_state_dict(adapter.state_dict())
    theirs = dict(other.deltas())
    assert all(delta.equal(theirs[name]) for name, delta in adapter.deltas())


def test_pissa_state_does_not_fit_a_plain_adapter(model, attach, few):
    plain = attach("lora", CONFIG, few)
    with pytest.raises(AdapterError, match=r"lora_A.start' .* on one side only|lora_A.start'"):
        plain.load_state_dict(attach("lora", PISSA, few, decoder=load_decoder(model)).state_dict())


def test_another_seed_is_another_start(model, attach, targets):
    states = [attach("lora", CONFIG, targets, seed=s, decoder=load_decoder(model)).state_dict() for s in (0, 1)]
    name = f"{targets[0].name}.lora_A.weight"
    assert not states[0][name].equal(states[1][name])
