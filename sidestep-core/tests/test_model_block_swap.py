"""Layers whose weights wait in main memory: the same bytes, at most two of them on the device, whatever is computed."""

import gc
import weakref

import pytest
import torch
from sidestep_core.model.block_swap import BlockSwap, frozen
from sidestep_core.model.dims import spread
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.quantize import QuantizedLinear
from sidestep_core.specs import BuildContext
from sidestep_core.targets import Target
from sidestep_core.testing.tiny_run import SmallAdapter, SmallConfig
from torch import nn

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture
def made(model):
    """A function that gives a decoder with an adapter on every layer, some of its layers waiting."""

    def make(waiting=(), *, recomputed=0, quantize="none"):
        decoder = load_decoder(model, quantize=quantize, waiting=waiting)
        torch.manual_seed(3)
        adapter = SmallAdapter(SmallConfig(), BuildContext())
        hidden = model.dims.hidden_size
        names = [f"layers.{i}.{block}.o_proj" for i in range(4) for block in ("self_attn", "cross_attn")]
        adapter.attach(decoder, [Target(name=name, out_features=hidden, in_features=hidden) for name in names])
        for _, parameter in adapter.parameters():
            nn.init.normal_(parameter, std=0.1)
        decoder.swap = BlockSwap({i: decoder.transformer.layers[i] for i in waiting}, CPU)
        decoder.swap.place(decoder)
        decoder.checkpointed_layers = recomputed
        return decoder.train(), adapter

    return make


def run(decoder):
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 40, 64, generator=generator)
    rows = torch.randn(2, 6, decoder.dims.condition_size, generator=generator)
    torch.manual_seed(5)  # of the adapter's dropout
    return decoder(noisy, torch.tensor([0.3, 0.8]), rows)


def learned(decoder, adapter):
    """Return the output and all gradients of one pass."""
    output = run(decoder)
    return [output, *torch.autograd.grad(output.square().mean(), [p for _, p in adapter.parameters()])]


@pytest.fixture
def fetched(monkeypatch):
    """What is fetched, in order, and weak references to every copy."""
    order, copies = [], []
    real = BlockSwap._fetch

    def fetch(self, index):
        order.append(index)
        tensors = real(self, index)
        copies.extend(weakref.ref(tensor.untyped_storage()) for tensor in tensors.values())
        return tensors

    monkeypatch.setattr(BlockSwap, "_fetch", fetch)
    return order, copies


@pytest.mark.parametrize("recomputed", [0, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_outputs_and_gradients_are_the_same_bytes(made, count, recomputed):
    expected = learned(*made(recomputed=recomputed))
    found = learned(*made(spread(count, 4), recomputed=recomputed))
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantized_base_waits_as_well(made, kind):
    expected, found = (learned(*made(waiting, quantize=kind)) for waiting in ((), (0, 1, 3)))
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


def test_without_gradients_it_gives_the_same(made):
    with torch.no_grad():
        assert run(made((0, 2))[0]).equal(run(made()[0]))


def test_weights_are_fetched_one_ahead_in_both_directions(made, fetched):
    order, _ = fetched
    decoder, adapter = made((0, 1, 3))
    output = run(decoder)
    # the first pass begins with the first layer and looks ahead from there
    assert order == [0, 1, 3]
    order.clear()
    torch.autograd.grad(output.square().mean(), [p for _, p in adapter.parameters()])
    assert order == [3, 1, 0]


def test_copies_are_given_up_after_each_pass(made, fetched):
    _, copies = fetched
    decoder, adapter = made((0, 1, 2, 3))
    output = run(decoder)
    gc.collect()
    assert sum(ref() is not None for ref in copies) == 0
    torch.autograd.grad(output.square().mean(), [p for _, p in adapter.parameters()])
    gc.collect()
    assert sum(ref() is not None for ref in copies) == 0


def test_at_most_two_layers_are_on_the_device_at_once(made, fetched, monkeypatch):
    _, copies = fetched
    most = []
    real = BlockSwap._take

    def take(self, index):
        weights = real(self, index)
        gc.collect()
        most.append(sum(ref() is not None for ref in copies) / len(weights))
        return weights

    monkeypatch.setattr(BlockSwap, "_take", take)
    learned(*made((0, 1, 2, 3)))
    assert max(most) <= 2


def test_only_frozen_projections_wait(made):
    decoder, adapter = made((2,))
    own = {id(parameter) for _, parameter in adapter.parameters()}
    waiting = [tensor for weights in decoder.swap._weights.values() for tensor in weights]
    assert not own & {id(tensor) for tensor in waiting}
    assert len(waiting) == 11
    assert {tensor.ndim for tensor in waiting} == {2}


def test_parts_of_a_quantized_projection_wait_together():
    layer = nn.ModuleDict({"a": QuantizedLinear(torch.ones(4, 8), "int8", torch.float32), "norm": nn.LayerNorm(4)})
    assert sorted(name for name, _ in frozen(layer)) == ["a.packed", "a.scale"]


def test_all_but_what_waits_is_brought_to_the_device(model):
    decoder = load_decoder(model, waiting=(1,))
    swap = BlockSwap({1: decoder.transformer.layers[1]}, torch.device("meta"))
    swap.place(decoder)
    stayed = {name for name, tensor in decoder.named_parameters() if not tensor.is_meta}
    assert stayed == {f"transformer.layers.1.{name}" for name, _ in frozen(decoder.transformer.layers[1])}
    assert decoder.silence.is_meta
