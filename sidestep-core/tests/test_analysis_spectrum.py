"""Effective ranks: what they are, and how they are kept."""

import json

import pytest
import torch
from sidestep_core.analysis.spectrum import cache_file, effective_rank, effective_ranks, read_cache, write_cache
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path


def counted(weight):
    """Count the singular values themselves."""
    energies = torch.linalg.svdvals(weight.double()).square()
    held = energies.cumsum(0) / energies.sum()
    return int((held < 0.95).sum()) + 1


@pytest.mark.parametrize(("values", "rank"), [([4, 3, 2, 1, 0.5], 3), ([2, 2, 2, 2], 4), ([7], 1), ([1, 0, 0], 1)])
def test_it_is_the_number_of_singular_values_with_95_per_cent_of_the_energy(values, rank):
    assert effective_rank(torch.diag(torch.tensor(values, dtype=torch.float32))) == rank


@pytest.mark.parametrize("shape", [(40, 40), (20, 70), (70, 20), (1, 9)])
@pytest.mark.parametrize("decay", [0.0, 0.1, 1.0])
def test_it_is_what_counting_singular_values_gives(shape, decay):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=generator) * torch.arange(1, shape[1] + 1) ** -decay
    assert effective_rank(weight) == counted(weight)


def test_neither_turning_nor_scaling_changes_it():
    weight = torch.randn(30, 50, generator=torch.Generator().manual_seed(2))
    turned = torch.linalg.qr(torch.randn(30, 30, generator=torch.Generator().manual_seed(3)))[0] @ weight
    assert effective_rank(turned) == effective_rank(weight.T) == effective_rank(1e-4 * weight) == counted(weight)


def test_a_weight_without_energy_has_rank_one():
    assert effective_rank(torch.zeros(5, 8)) == 1


def test_a_weight_that_is_not_finite_has_none():
    assert effective_rank(torch.tensor([[1.0, float("nan")], [0.0, 1.0]])) == -1


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture(scope="module")
def ranks(model):
    return dict(effective_ranks(model, "cpu"))


def test_every_projection_of_a_model_has_one_in_the_models_order(model, ranks):
    assert list(ranks) == list(projection_shapes(model.dims))
    decoder = load_decoder(model)
    for name in ("layers.0.self_attn.q_proj", "layers.3.cross_attn.k_proj", "layers.2.mlp.down_proj"):
        assert ranks[name] == counted(decoder.transformer.get_submodule(module_path(name)).weight)


def test_a_model_of_the_other_layout_has_the_same(tiny_diffusers, ranks):
    assert dict(effective_ranks(resolve_model(tiny_diffusers, "tiny-base"), "cpu")) == ranks


def test_what_is_kept_is_read_again(model, ranks, tmp_path):
    file = cache_file(tmp_path / "not" / "there", "abc")
    assert read_cache(file, model) is None
    write_cache(file, ranks)
    assert read_cache(file, model) == ranks


def test_every_model_has_a_file_of_its_own(tmp_path):
    assert cache_file(tmp_path, "abc") != cache_file(tmp_path, "abd")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: "not JSON",
        lambda data: "[]",
        lambda data: json.dumps({**data, "format": 2}),
        lambda data: json.dumps({**data, "energy": 0.9}),
        lambda data: json.dumps({**data, "ranks": dict(list(data["ranks"].items())[1:])}),
        lambda data: json.dumps({**data, "ranks": {**data["ranks"], "layers.0.self_attn.q_proj": "many"}}),
        lambda data: json.dumps({**data, "ranks": 5}),
    ],
    ids=["text", "list", "format", "energy", "one short", "no number", "no table"],
)
def test_a_file_that_is_not_what_it_should_be_is_not_used(model, ranks, tmp_path, spoil):
    file = cache_file(tmp_path, "abc")
    write_cache(file, ranks)
    file.write_text(spoil(json.loads(file.read_text())))
    assert read_cache(file, model) is None
