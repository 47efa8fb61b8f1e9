"""What holds for every adapter type: where it sits, what it costs, ranks of its own, dtype, state and files."""

import attrs
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import AdapterError
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.targets import Target, choose_targets

TYPES = {spec.name: spec for spec in sidestep_adapters()}
CONFIGS = {
    "lora": LoraConfig(rank=4, alpha=10, dropout=0.0),
    "dora": DoraConfig(rank=4, alpha=10, dropout=0.0),
    "lokr": LokrConfig(rank=3, alpha=6),
    "loha": LohaConfig(rank=4, alpha=10),
    "oft": OftConfig(block_size=16),
}
every_type = pytest.mark.parametrize("name", CONFIGS)


BLOCK = [
    *(f"{block}.{name}_proj" for block in ("self_attn", "cross_attn") for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
]
PLACES = [f"transformer.layers.{layer}.{module_path(name)}" for layer in range(4) for name in BLOCK]


def adapted_places(decoder):
    """Return the projections that something trainable is on, having checked that there is nothing trainable else."""
    trainable = [name for name, parameter in decoder.named_parameters() if parameter.requires_grad]
    found = {place for place in PLACES for name in trainable if name.startswith(f"{place}.")}
    assert all(any(name.startswith(f"{place}.") for place in found) for name in trainable)
    return found


# Where it sits


@every_type
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention": "cross", "target_mlp": False},
        {"attention": "self", "target_modules": ("q_proj",), "target_mlp": False},
        {"self_target_modules": ("q_proj", "v_proj"), "cross_target_modules": ("k_proj",), "target_mlp": False},
        {"include_modules": ("layers.[13].*",), "exclude_modules": ("*.mlp.*", "*.o_proj")},
    ],
)
def test_exactly_the_targets_are_adapted(model, decoder, attach, name, settings):
    targets = choose_targets(projection_shapes(model.dims), TargetsConfig(**settings))
    adapter = attach(name, CONFIGS[name], targets)
    assert adapted_places(decoder) == {f"transformer.{module_path(target.name)}" for target in targets}
    assert [place for place, _ in adapter.deltas()] == [target.name for target in targets]


@every_type
def test_a_projection_that_is_not_there_is_refused_and_the_decoder_left_alone(decoder, attach, name):
    before = [place for place, _ in decoder.named_modules()]
    with pytest.raises(AdapterError, match=r"no projection 'layers.9.mlp.up_proj'"):
        attach(name, CONFIGS[name], [Target(name="layers.9.mlp.up_proj", out_features=1, in_features=1)])
    with pytest.raises(AdapterError, match=r"no projection 'layers.0.mlp'"):
        attach(name, CONFIGS[name], [Target(name="layers.0.mlp", out_features=1, in_features=1)])
    assert [place for place, _ in decoder.named_modules()] == before


@every_type
def test_the_decoders_mode_is_kept(decoder, attach, targets, name):
    attach(name, CONFIGS[name], targets)
    assert not any(module.training for module in decoder.modules())


# What it costs


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *((name, spec.config()) for name, spec in TYPES.items()),
        *CONFIGS.items(),
        ("lora", LoraConfig(rank=4, init_weights="pissa")),
        ("lokr", LokrConfig(rank=2, decompose_both=True, use_scalar=True, weight_decompose=True)),
        ("lokr", LokrConfig(rank=2, full_matrix=True, decompose_both=True)),
        ("lokr", LokrConfig(rank=2, factor=4, unbalanced_factorization=True)),
        ("lokr", LokrConfig(rank=9, factor=2)),
        ("loha", LohaConfig(rank=4, use_scalar=True)),
        ("oft", OftConfig(block_size=13)),
        ("oft", OftConfig(block_size=1024)),
    ],
)
@pytest.mark.parametrize("own", [None, 2, 8])
def test_the_counted_parameters_are_those_attached(attach, targets, name, config, own):
    some = [attrs.evolve(target, rank=own) for target in targets if target.name.startswith("layers.0.")]
    if name == "oft":  # sizes that cannot be saved together are refused
        some = [target for target in some if target.in_features == 64]
    adapter = attach(name, config, some)
    counted = sum(TYPES[name].count(config, t.out_features, t.in_features, t.rank) for t in some)
    assert sum(parameter.numel() for _, parameter in adapter.parameters()) == counted


# Ranks of their own


@every_type
def test_modules_can_have_a_rank_of_their_own(attach, few, stir, plain, tmp_path, name):
    own = [attrs.evolve(target, rank=2) if "down_proj" in target.name else target for target in few]
    adapter = attach(name, CONFIGS[name], own)
    stir(adapter)
    adapter.save(tmp_path, metadata={})
    read = plain.deltas(tmp_path)
    for place, delta in adapter.deltas():
        assert torch.allclose(read[place], delta, atol=1e-5 * delta.abs().max())


@pytest.mark.parametrize("name", ["lora", "dora", "lokr", "loha"])
def test_a_rank_of_its_own_keeps_the_ratio_of_alpha_to_rank(attach, few, model, name):
    config = attrs.evolve(CONFIGS[name], rank=3)
    target = few[2]
    all_of_it = attach(name, attrs.evolve(config, rank=2, alpha=config.alpha * 2), [target]).state_dict()
    scales = []
    for own, base in (
        (attrs.evolve(target, rank=2), attrs.evolve(config, alpha=9)),
        (target, attrs.evolve(config, rank=2, alpha=6)),
        (attrs.evolve(target, rank=2, alpha=6), attrs.evolve(config, alpha=1)),
    ):
        adapter = attach(name, base, [own], decoder=load_decoder(model))
        adapter.load_state_dict({key: torch.full_like(weight, 0.1) for key, weight in all_of_it.items()})
        scales.append(dict(adapter.deltas())[target.name])
    assert torch.allclose(scales[0], scales[1])
    assert torch.allclose(scales[1], scales[2])


# Dtype


@every_type
def test_a_bf16_decoder_gets_the_same_start_in_float32(model, attach, few, name):
    starts = [
        attach(name, CONFIGS[name], few, decoder=load_decoder(model, dtype=dtype)).state_dict()
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for key, weight in starts[0].items():
        assert weight.dtype == starts[1][key].dtype == torch.float32
        # magnitudes follow from the weights, which bf16 rounds
        assert torch.allclose(weight, starts[1][key], rtol=1e-2)


@every_type
@pytest.mark.parametrize("autocast", [True, False])
def test_a_bf16_decoder_computes_nearly_the_same(model, attach, targets, stir, inputs, name, autocast):
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        decoder = load_decoder(model, dtype=dtype)
        stir(attach(name, CONFIGS[name], targets, decoder=decoder), 0.02)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast and dtype != torch.float32):
            outputs.append(decoder(*inputs(decoder)))
    assert outputs[1].dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(*(o.float().flatten() for o in outputs), dim=0) > 0.995


@every_type
def test_gradients_are_float32_whatever_the_decoder(model, attach, few, stir, inputs, name):
    decoder = load_decoder(model, dtype=torch.bfloat16)
    adapter = attach(name, CONFIGS[name], few, decoder=decoder)
    stir(adapter)
    with torch.autocast("cpu", torch.bfloat16):
        decoder(*inputs(decoder)).float().square().mean().backward()
    gradients = [parameter.grad for _, parameter in adapter.parameters()]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


@every_type
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_layers_give_the_same_gradients(model, attach, targets, stir, inputs, name, dtype):
    gradients = []
    for layers in (0, 4):
        decoder = load_decoder(model, dtype=dtype)
        adapter = attach(name, CONFIGS[name], targets, decoder=decoder)
        stir(adapter)
        decoder.checkpointed_layers = layers
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = decoder(*inputs(decoder))
        output.float().square().mean().backward()
        gradients.append([parameter.grad for _, parameter in adapter.parameters()])
    assert all(first.equal(again) for first, again in zip(*gradients, strict=True))


@every_type
def test_training_brings_the_decoder_nearer_to_its_goal(decoder, attach, targets, inputs, name):
    adapter = attach(name, CONFIGS[name], targets)
    optimizer = torch.optim.AdamW(adapter.groups(3e-3))
    goal = torch.randn(2, 40, 64, generator=torch.Generator().manual_seed(4))
    losses = []
    for _ in range(12):
        loss = (decoder(*inputs()) - goal).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


@every_type
def test_a_saved_state_goes_on_as_if_nothing_had_happened(model, attach, few, inputs, tmp_path, name):
    def step(decoder, adapter, optimizer):
        decoder(*inputs(decoder)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    straight = load_decoder(model)
    adapter = attach(name, CONFIGS[name], few, decoder=straight)
    optimizer = torch.optim.SGD(adapter.groups(0.1))
    step(straight, adapter, optimizer)
    save_file({key: weight.clone() for key, weight in adapter.state_dict().items()}, tmp_path / "state.safetensors")
    step(straight, adapter, optimizer)

    resumed = load_decoder(model)
    again = attach(name, CONFIGS[name], few, decoder=resumed, seed=9)
    again.load_state_dict(load_file(tmp_path / "state.safetensors"))
    step(resumed, again, torch.optim.SGD(again.groups(0.1)))
    assert all(weight.equal(again.state_dict()[key]) for key, weight in adapter.state_dict().items())


# State and files


@every_type
def test_state_is_the_weights_themselves(attach, few, name):
    adapter = attach(name, CONFIGS[name], few)
    state = adapter.state_dict()
    assert list(state) == [place for place, _ in adapter.parameters()]
    assert all(state[place].data_ptr() == parameter.data_ptr() for place, parameter in adapter.parameters())


@every_type
def test_state_of_other_shapes_is_refused_and_nothing_taken_from_it(model, attach, few, stir, name):
    adapter = attach(name, CONFIGS[name], few)
    stir(adapter)
    before = {key: weight.clone() for key, weight in adapter.state_dict().items()}
    other = {key: torch.zeros(weight.shape) for key, weight in before.items()}
    last = list(other)[-1]
    other[last] = torch.zeros(1, 2, 3)
    with pytest.raises(AdapterError, match=rf"{last}' is .* here and \(1, 2, 3\) there"):
        adapter.load_state_dict(other)
    assert all(weight.equal(before[key]) for key, weight in adapter.state_dict().items())


@every_type
def test_saving_changes_nothing_and_leaves_other_files(attach, few, stir, tmp_path, name):
    adapter = attach(name, CONFIGS[name], few)
    stir(adapter)
    before = {key: weight.clone() for key, weight in adapter.state_dict().items()}
    (tmp_path / "notes.txt").write_text("mine")
    written = adapter.save(tmp_path, metadata={})
    assert all(weight.equal(before[key]) for key, weight in adapter.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(p.name for p in written), "notes.txt"])


@every_type
def test_files_hold_the_metadata_and_finite_float32_numbers(attach, few, stir, tmp_path, name):
    adapter = attach(name, CONFIGS[name], few)
    stir(adapter)
    adapter.save(tmp_path, metadata={"song": "mine"})
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["song"] == "mine"
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in load_file(file).values())
