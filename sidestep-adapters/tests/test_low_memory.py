"""Every adapter type on a base in fewer bits, and on layers whose weights wait in main memory."""

import attrs
import pytest
import torch
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.errors import ResumeError
from sidestep_core.events import EpochDone
from sidestep_core.model.block_swap import BlockSwap
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.requests import Chosen
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training import sharing
from sidestep_core.training.loop import train

TYPES = {spec.name: spec for spec in sidestep_adapters()}
CONFIGS = {
    "lora": LoraConfig(rank=4, alpha=8, dropout=0.0),
    "lora, pissa": LoraConfig(rank=4, alpha=8, dropout=0.0, init_weights="pissa"),
    "dora": DoraConfig(rank=4, alpha=8, dropout=0.0),
    "lokr": LokrConfig(rank=4, alpha=8),
    "lokr, decomposed": LokrConfig(rank=4, alpha=8, weight_decompose=True),
    "loha": LohaConfig(rank=4, alpha=8),
    "loha, rank 1": LohaConfig(rank=1, alpha=2),
    "oft": OftConfig(block_size=16),
}
every_kind = pytest.mark.parametrize("kind", ["int8", "nf4"])
every_form = pytest.mark.parametrize("form", CONFIGS)
every_type = pytest.mark.parametrize("name", TYPES)


def named(form):
    return form.partition(",")[0], CONFIGS[form]


def loaded(model, targets, kind):
    """Return a quantized decoder, and a plain one that has its weights."""
    quantized, plain = load_decoder(model, quantize=kind), load_decoder(model)
    for path in (f"transformer.{module_path(target.name)}" for target in targets):
        plain.get_submodule(path).weight.data = quantized.get_submodule(path).weight
    return quantized, plain


def passed(decoder, adapter, given):
    """Return the output of a decoder and the gradients of its adapter."""
    output = decoder(*given)
    return output, torch.autograd.grad(output.square().mean(), [p for _, p in adapter.parameters()])


@every_kind
@every_form
def test_it_computes_and_learns_as_on_a_plain_base_of_the_same_weights(
    model, attach, targets, few, stir, inputs, form, kind
):
    results = []
    for decoder in loaded(model, targets, kind):
        adapter = attach(*named(form), few, decoder=decoder)
        stir(adapter)
        results.append(passed(decoder, adapter, inputs(decoder)))
    (output, gradients), (expected, wanted) = results
    assert torch.allclose(output, expected, atol=1e-5)
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-7) for one, other in zip(gradients, wanted, strict=True))


@every_kind
@every_form
def test_a_fresh_adapter_changes_nothing(model, attach, few, inputs, form, kind):
    decoder = load_decoder(model, quantize=kind)
    with torch.no_grad():
        before = decoder(*inputs(decoder))
        attach(*named(form), few, decoder=decoder)
        assert torch.allclose(decoder(*inputs(decoder)), before, atol=1e-6)


@every_kind
@every_form
def test_deltas_are_what_it_adds_to_the_weights_that_are_multiplied_with(model, attach, few, stir, form, kind):
    decoder = load_decoder(model, quantize=kind)
    frozen = {t.name: decoder.get_submodule(f"transformer.{module_path(t.name)}").weight for t in few}
    adapter = attach(*named(form), few, decoder=decoder)
    stir(adapter)
    for name, delta in adapter.deltas():
        layer = decoder.get_submodule(f"transformer.{module_path(name)}")
        with torch.no_grad():
            found = layer(torch.eye(delta.shape[1])).T
        assert torch.allclose(found, frozen[name] + delta, atol=2e-5)


@every_form
def test_no_weight_is_kept_for_the_backward_pass(model, attach, few, inputs, form):
    decoder = load_decoder(model, quantize="int8")
    weights = [decoder.get_submodule(f"transformer.{module_path(t.name)}").weight for t in few]
    attach(*named(form), few, decoder=decoder)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        decoder(*inputs(decoder))
    assert kept
    sizes = {weight.numel() for weight in weights}
    flat = [t.detach().flatten() for t in kept if t.numel() in sizes and t.is_floating_point()]
    assert not any(t.sort().values.equal(weight.flatten().sort().values) for t in flat for weight in weights)


@pytest.mark.parametrize("kind", ["none", "nf4"])
@every_form
def test_layers_that_wait_give_the_same_bytes(model, attach, targets, stir, inputs, form, kind):
    results = []
    for waiting in ((), (0, 1, 3)):
        decoder = load_decoder(model, quantize=kind, waiting=waiting)
        adapter = attach(*named(form), targets, decoder=decoder)
        stir(adapter)
        layers = {i: decoder.transformer.layers[i] for i in waiting}
        decoder.swap = BlockSwap(layers, torch.device("cpu"))
        decoder.swap.place(decoder)
        results.append(passed(decoder, adapter, inputs(decoder)))
    (output, gradients), (expected, wanted) = results
    assert output.equal(expected)
    assert all(one.equal(other) for one, other in zip(gradients, wanted, strict=True))


@every_type
def test_layers_that_wait_can_be_computed_without_the_adapter(model, attach, targets, stir, inputs, name):
    decoder = load_decoder(model, waiting=(0, 2))
    adapter = attach(name, CONFIGS[name], targets, decoder=decoder)
    stir(adapter)
    decoder.swap = BlockSwap({i: decoder.transformer.layers[i] for i in (0, 2)}, torch.device("cpu"))
    with torch.no_grad():
        adapted = decoder(*inputs(decoder))
        with adapter.disabled():
            assert decoder(*inputs(decoder)).equal(load_decoder(model)(*inputs(decoder)))
        assert decoder(*inputs(decoder)).equal(adapted)


# Whole runs


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64, 40], rows=[5, 9])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(name, run, *, resume_from=None, epochs=3, **memory):
        parts = attrs.evolve(tiny_components(), adapter=Chosen(spec=TYPES[name], config=CONFIGS[name]))
        tables = {"train": {"epochs": epochs, "accumulation": 1}, "run": {"resume_from": resume_from}}
        return tiny_plan(tiny_checkpoint, store, tmp_path / run, parts, memory=memory, **tables)

    return make


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("lora", {"quantize_base": "nf4"}),
        ("dora", {"quantize_base": "int8"}),
        ("lokr", {"quantize_base": "nf4", "block_swap": 2}),
        ("loha", {"quantize_base": "int8"}),
        ("oft", {"quantize_base": "nf4"}),
    ],
)
def test_a_run_that_was_stopped_ends_in_the_same_bytes(plan, monkeypatch, name, memory):
    straight, stopped = plan(name, "straight", **memory), plan(name, "stopped", **memory)
    list(train(straight))
    steps = []
    real = sharing.backward
    monkeypatch.setattr(sharing, "backward", lambda *args: steps.append(1) or real(*args))
    list(train(stopped, stop=lambda: len(steps) >= 4))
    list(train(plan(name, "stopped", resume_from="latest", **memory)))
    assert files(stopped.run / "final") == files(straight.run / "final")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[pytest.mark.slow] if kind == "int8" and name != "lora" else [])
        for name in TYPES
        for kind in ("nf4", "int8")
    ],
)
def test_loss_falls(plan, name, kind):
    made = plan(name, "run", epochs=16, quantize_base=kind)
    losses = [event.loss for event in train(made) if isinstance(event, EpochDone)]
    assert sum(losses[-4:]) < 0.97 * sum(losses[:4])


def test_another_base_is_not_the_same_run(plan):
    list(train(plan("lora", "run", quantize_base="nf4")))
    with pytest.raises(ResumeError, match=r"memory\.quantize_base was 'nf4', now 'none'"):
        list(train(plan("lora", "run", resume_from="latest")))
