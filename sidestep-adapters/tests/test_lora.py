"""LoRA keeps the adapter contract, sits where it was told to and behaves under precision, dropout and checkpointing."""

import json

import attrs
import pytest
import torch
from sidestep_adapters.configs import LoraConfig
from sidestep_adapters.lora import LoraAdapter
from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import AdapterError
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.specs import BuildContext
from sidestep_core.targets import Target, choose_targets
from sidestep_core.testing.contracts import AdapterContract


class TestLora(AdapterContract):
    plugin, name = "sidestep_adapters.plugin", "lora"
    config = LoraConfig(rank=4, alpha=12)


@pytest.fixture
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture
def decoder(model):
    return load_decoder(model)


@pytest.fixture
def targets(model):
    return choose_targets(projection_shapes(model.dims), TargetsConfig())


def attached(decoder, targets, *, seed=0, **settings):
    adapter = LoraAdapter(LoraConfig(**{"rank": 4, "alpha": 8, **settings}), BuildContext(seed=seed))
    adapter.attach(decoder, targets)
    return adapter


def inputs(decoder, length=40):
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(2, length, 64, generator=generator).to(decoder.dtype)
    rows = torch.randn(2, 6, decoder.dims.condition_size, generator=generator).to(decoder.dtype)
    return noisy, torch.tensor([0.3, 0.8]), rows


def stir(adapter):
    """Give B values, so that the adapter does something."""
    generator = torch.Generator().manual_seed(3)
    for name, weight in adapter.state_dict().items():
        if "lora_B" in name:
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


# Where it sits


def test_names_are_the_original_ones_in_the_order_of_the_targets(decoder, targets):
    names = [name for name, _ in attached(decoder, targets).parameters()]
    assert names == [f"{t.name}.lora_{part}.weight" for t in targets for part in "AB"]


def test_shapes_follow_the_rank(decoder, targets):
    parameters = dict(attached(decoder, targets, rank=5).parameters())
    for target in targets:
        assert parameters[f"{target.name}.lora_A.weight"].shape == (5, target.in_features)
        assert parameters[f"{target.name}.lora_B.weight"].shape == (target.out_features, 5)


def test_a_block_of_one_layer_alone_can_be_adapted(decoder, targets):
    some = [target for target in targets if target.name.startswith("layers.1.cross_attn.")]
    attached(decoder, some)
    trainable = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * len(some)
    assert all(name.startswith("transformer.layers.1.cross_attn.to_") for name in trainable)


def test_modules_can_have_a_rank_and_alpha_of_their_own(decoder, targets, tmp_path):
    own = [attrs.evolve(t, rank=2, alpha=3) if "down_proj" in t.name else t for t in targets]
    adapter = attached(decoder, own)
    stir(adapter)
    down = targets[-1].name
    state = adapter.state_dict()
    product = state[f"{down}.lora_B.weight"] @ state[f"{down}.lora_A.weight"]
    assert product.shape == dict(adapter.deltas())[down].shape
    assert torch.allclose(dict(adapter.deltas())[down], 1.5 * product)
    adapter.save(tmp_path, metadata={})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["rank_pattern"] == {t.name: 2 for t in targets if "down_proj" in t.name}


def test_a_projection_that_is_not_there_is_refused(decoder):
    with pytest.raises(AdapterError, match=r"no projection 'layers.9.mlp.up_proj'"):
        attached(decoder, [Target(name="layers.9.mlp.up_proj", out_features=1, in_features=1)])


def test_a_refused_decoder_is_left_alone(decoder):
    before = [name for name, _ in decoder.named_modules()]
    with pytest.raises(AdapterError):
        attached(decoder, [Target(name="layers.0.mlp", out_features=1, in_features=1)])
    assert [name for name, _ in decoder.named_modules()] == before


def test_the_decoders_mode_is_kept(decoder, targets):
    attached(decoder, targets)
    assert not any(module.training for module in decoder.modules())


# What it computes


def test_another_seed_is_another_start(model, targets):
    first, second = (attached(load_decoder(model), targets, seed=seed).state_dict() for seed in (0, 1))
    name = f"{targets[0].name}.lora_A.weight"
    assert not first[name].equal(second[name])


def test_the_start_does_not_depend_on_the_decoders_dtype(model, targets):
    dtypes = (torch.float32, torch.bfloat16)
    first, second = (attached(load_decoder(model, dtype=dtype), targets).state_dict() for dtype in dtypes)
    assert all(first[name].equal(second[name]) for name in first)


def test_alpha_over_rank_is_the_scale(decoder, targets):
    adapter = attached(decoder, targets, rank=4, alpha=10)
    stir(adapter)
    state = adapter.state_dict()
    for name, delta in adapter.deltas():
        assert torch.allclose(delta, 2.5 * state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"])


def test_dropout_acts_in_training_only(decoder, targets):
    stir(attached(decoder, targets, dropout=0.5))
    with torch.no_grad():
        still = [decoder(*inputs(decoder)) for _ in range(2)]
        decoder.train()
        moving = [decoder(*inputs(decoder)) for _ in range(2)]
    assert still[0].equal(still[1])
    assert not moving[0].equal(moving[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_layers_give_the_same_gradients(model, targets, dtype):
    gradients = []
    for layers in (0, 4):
        decoder = load_decoder(model, dtype=dtype)
        adapter = attached(decoder, targets, dropout=0.0)
        stir(adapter)
        decoder.checkpointed_layers = layers
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = decoder(*inputs(decoder))
        output.float().square().mean().backward()
        gradients.append([parameter.grad for _, parameter in adapter.parameters()])
    assert all(plain.equal(again) for plain, again in zip(*gradients, strict=True))


def test_a_bf16_decoder_works_without_autocast(model, targets):
    decoder = load_decoder(model, dtype=torch.bfloat16)
    stir(attached(decoder, targets))
    assert decoder(*inputs(decoder)).dtype == torch.bfloat16


def test_one_optimizer_group_holds_everything(decoder, targets):
    adapter = attached(decoder, targets)
    (group,) = adapter.groups(3e-4)
    assert group["lr"] == 3e-4
    assert [id(p) for p in group["params"]] == [id(p) for _, p in adapter.parameters()]


# State and files


def test_state_of_other_shapes_is_refused(model, targets):
    first, second = (attached(load_decoder(model), targets, rank=rank) for rank in (4, 5))
    with pytest.raises(AdapterError, match=r"is \(5, 64\) here and \(4, 64\) there"):
        second.load_state_dict(first.state_dict())


def test_state_is_the_weights_themselves(decoder, targets):
    adapter = attached(decoder, targets)
    stir(adapter)
    state = adapter.state_dict()
    assert list(state) == [name for name, _ in adapter.parameters()]
    assert all(state[name].data_ptr() == parameter.data_ptr() for name, parameter in adapter.parameters())


def test_saving_into_a_folder_leaves_its_other_files(decoder, targets, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    written = attached(decoder, targets).save(tmp_path, metadata={})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(p.name for p in written), "notes.txt"])
