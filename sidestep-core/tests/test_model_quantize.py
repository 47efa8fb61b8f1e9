"""Frozen projections in fewer bits: one definite weight, exact products with it, nothing of its size kept."""

import sys

import pytest
import torch
import torch.nn.functional as F
from sidestep_core.errors import LoadError
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.quantize import KINDS, QuantizedLinear, pack, parts, unpack, weight_of
from torch import nn

pytestmark = pytest.mark.parametrize("kind", KINDS)


def weight(out_features=48, in_features=40, seed=0):
    return 0.02 * torch.randn(out_features, in_features, generator=torch.Generator().manual_seed(seed))


def inputs(dtype=torch.float32, in_features=40):
    x = torch.randn(2, 7, in_features, generator=torch.Generator().manual_seed(1))
    return x.to(dtype).requires_grad_()


# rows that are no whole number of blocks, which bitsandbytes' own layer gets wrong on some CPUs, and those that are
@pytest.mark.parametrize("shape", [(48, 40), (64, 192), (33, 50), (5, 4)])
def test_a_weight_comes_back_near_what_it_was(kind, shape):
    given = weight(*shape)
    packed, scale = pack(given, kind)
    error = (unpack(packed, scale, kind, shape, torch.float32) - given).norm() / given.norm()
    assert error < {"int8": 0.008, "nf4": 0.11}[kind]


def test_it_takes_its_bits(kind):
    packed, scale = pack(weight(64, 64), kind)
    assert (packed.nbytes, scale.nbytes) == {"int8": (64 * 64, 64 * 4), "nf4": (64 * 32, 64 * 4)}[kind]


def test_zeros_stay_zeros(kind):
    given = weight()
    given[3] = 0
    packed, scale = pack(torch.zeros_like(given), kind)
    assert unpack(packed, scale, kind, (48, 40), torch.float32).equal(torch.zeros_like(given))
    assert QuantizedLinear(given, kind, torch.float32).weight.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_gradients_are_those_of_its_weight(kind, dtype):
    layer = QuantizedLinear(weight(), kind, dtype)

    def computed(product):
        x = inputs(dtype)
        y = product(x)
        return [y, *torch.autograd.grad(y.float().square().sum(), x)]

    found, expected = computed(layer), computed(lambda x: F.linear(x, layer.weight))
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))
    assert found[0].dtype == dtype


def test_under_autocast_it_computes_as_a_projection_in_that_type(kind):
    layer = QuantizedLinear(weight(), kind, torch.bfloat16)
    plain = nn.Linear(40, 48, bias=False, dtype=torch.bfloat16)
    plain.weight.data.copy_(layer.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(inputs()).equal(plain(inputs()))


def test_nothing_of_the_weights_size_is_kept_for_the_backward_pass(kind):
    layer = QuantizedLinear(weight(256, 256), kind, torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(inputs(in_features=256))
    assert kept
    assert all(any(tensor is part for part in parts(layer)) for tensor in kept)


def test_it_is_a_linear_layer_to_whoever_looks(kind):
    layer = QuantizedLinear(weight(), kind, torch.bfloat16)
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features, layer.bias) == (40, 48, None)
    assert [p.requires_grad for p in layer.parameters()] == [False, False]
    assert layer.weight.dtype == torch.bfloat16


def test_the_weight_can_be_made_of_what_autograd_kept(kind):
    layer = QuantizedLinear(weight(), kind, torch.float32)
    held = [part.clone() for part in parts(layer)]
    for part in parts(layer):
        part.data = torch.zeros_like(part)
    assert weight_of(layer, held).equal(QuantizedLinear(weight(), kind, torch.float32).weight)


def test_a_plain_projection_is_its_own_part(kind):
    plain = nn.Linear(3, 2)
    assert parts(plain) == (plain.weight,)
    assert weight_of(plain, parts(plain)) is plain.weight


# In the decoder


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


def test_the_projections_of_the_layers_and_nothing_else_are_quantized(kind, model):
    plain, packed = load_decoder(model), load_decoder(model, quantize=kind)
    kinds = {name for name, part in packed.named_modules() if isinstance(part, QuantizedLinear)}
    expected = {
        name
        for name, part in plain.named_modules()
        if name.startswith("transformer.layers.") and isinstance(part, nn.Linear)
    }
    assert kinds == expected
    others = dict(packed.named_parameters())
    assert all(
        others[name].equal(value) for name, value in plain.named_parameters() if name.rpartition(".")[0] not in expected
    )


def test_the_decoder_gives_nearly_what_it_gave(kind, model):
    t, x = torch.tensor([0.4]), torch.randn(1, 30, 64, generator=torch.Generator().manual_seed(0))
    rows = torch.randn(1, 5, model.dims.condition_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain, packed = (load_decoder(model, quantize=q)(x, t, rows) for q in ("none", kind))
    assert 0 < (plain - packed).norm() / plain.norm() < {"int8": 0.02, "nf4": 0.3}[kind]


def test_the_compute_type_does_not_change_what_is_kept(kind, model):
    first, second = (load_decoder(model, quantize=kind, dtype=d) for d in (torch.float32, torch.bfloat16))
    name = "transformer.layers.1.mlp.up_proj"
    assert parts(first.get_submodule(name))[0].equal(parts(second.get_submodule(name))[0])


def test_without_the_library_it_is_said_what_to_install(kind, model, monkeypatch):
    if kind == "int8":
        pytest.skip("int8 needs no library")
    monkeypatch.delitem(sys.modules, "sidestep_core.model.nf4", raising=False)
    monkeypatch.delattr("sidestep_core.model.nf4", raising=False)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(LoadError, match=r"nf4 needs bitsandbytes: pip install 'sidestep-core\[bnb\]'"):
        load_decoder(model, quantize=kind)
