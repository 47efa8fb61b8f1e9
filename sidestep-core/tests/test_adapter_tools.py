"""Adapters are added, resized, compared and extracted as their weight differences say."""

import json

import attrs
import pytest
import torch
from sidestep_core.adapter_tools.combine import combine, resize
from sidestep_core.adapter_tools.compare import compare, norms
from sidestep_core.adapter_tools.effect import measure_effect
from sidestep_core.adapter_tools.extract import extract
from sidestep_core.adapter_tools.picture import draw_modules
from sidestep_core.adapter_tools.writing import write_plain_lora
from sidestep_core.errors import AdapterError, ConfigError
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.owner import find_owner, owner_fault
from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.principal import approximate
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import read_adapter
from sidestep_core.formats.updates import LowRank
from sidestep_core.formats.weight_updates import Decomposed
from sidestep_core.model.layout import find_models, identity, resolve_model
from sidestep_core.tensor_files import tensor_bytes

Q, UP = "layers.0.self_attn.q_proj", "layers.1.mlp.up_proj"
SHAPES = {Q: (64, 64), UP: (192, 64)}  # as in the tiny model


def module(name, rank=3, seed=0, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    out, in_ = SHAPES[name]
    down, up = torch.randn(rank, in_, generator=generator), torch.randn(out, rank, generator=generator)
    return LowRank(name=name, down=down * size, up=up)


def save(folder, updates, **metadata):
    folder.mkdir()
    for name, content in peft_files(updates, metadata).items():
        (folder / name).write_bytes(content)
    return read_adapter(folder)


@pytest.fixture
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture
def first(tmp_path):
    return save(tmp_path / "first", [module(Q), module(UP)], run="one", trigger_tag="ohm, a", base_identity="x")


@pytest.fixture
def second(tmp_path):
    return save(tmp_path / "second", [module(Q, rank=2, seed=1)], run="two", trigger_tag="a", base_identity="x")


@pytest.fixture
def dora(tmp_path, model):
    weight = BaseWeights(model).weight(Q)
    update = Decomposed(name=Q, inner=module(Q, size=0.01), magnitude=1.1 * weight.norm(dim=1))
    return save(tmp_path / "dora", [update])


def near(found, wanted, share=1e-5):
    return (found - wanted).abs().max() <= share * wanted.abs().max()


# Adding


def test_loras_add_up_exactly(first, second):
    made = combine([(first, 1.0), (second, -0.5)], rank=None, base=None)
    found, a, b = {u.name: u for u in made.updates}, dict(deltas(first)), dict(deltas(second))
    assert near(found[Q].delta(), a[Q] - 0.5 * b[Q])
    assert near(found[UP].delta(), a[UP])
    assert ({u.name: u.rank for u in made.updates}, made.losses) == ({Q: 5, UP: 3}, {Q: 0.0, UP: 0.0})


def test_a_smaller_rank_says_what_it_costs(first, second):
    made = combine([(first, 1.0), (second, 1.0)], rank=4, base=None)
    total = dict(deltas(first))[Q] + dict(deltas(second))[Q]
    found = made.updates[0]
    assert found.rank == 4
    assert made.losses[Q] == pytest.approx(float((found.delta() - total).norm() / total.norm()), rel=1e-3)
    assert 0 < made.losses[Q] < 1


def test_the_sum_says_what_it_is_made_of(first, second):
    metadata = combine([(first, 1.0), (second, 0.5)], rank=None, base=None).metadata
    assert (metadata["made_from"], metadata["trigger_tag"]) == ("one x 1, two x 0.5", "ohm, a")
    assert metadata["run"] == "one, two"
    assert (metadata["base_identity"], metadata["rank"]) == ("x", "3 to 5")


def test_what_the_summands_say_differently_is_left_out(first, tmp_path):
    other = save(tmp_path / "other", [module(Q)], base_identity="y")
    assert "base_identity" not in combine([(first, 1.0), (other, 1.0)], rank=None, base=None).metadata


def test_a_weight_of_nothing_leaves_an_adapter_out(first, second):
    made = combine([(first, 0.0), (second, 2.0)], rank=None, base=None)
    assert [update.name for update in made.updates] == [Q]
    with pytest.raises(AdapterError, match="every weight is 0"):
        combine([(first, 0.0)], rank=None, base=None)


def test_adapters_of_different_models_do_not_add_up(first, tmp_path):
    other = attrs.evolve(module(Q), up=torch.randn(32, 3))
    with pytest.raises(AdapterError, match="the adapters are of different models"):
        combine([(first, 1.0), (save(tmp_path / "other", [other]), 1.0)], rank=None, base=None)


def test_dora_needs_the_weights(dora, model):
    with pytest.raises(AdapterError, match="depends on the weights of the model: give --checkpoint-dir"):
        resize(dora, 8, None)
    made = resize(dora, 64, BaseWeights(model))
    ((_, wanted),) = deltas(dora, BaseWeights(model))
    assert near(made.updates[0].delta(), wanted, 1e-4)


# Resizing


def test_the_approximation_is_the_best_of_its_rank():
    matrix = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    update, loss = approximate("x", matrix, 10)
    values = torch.linalg.svdvals(matrix)
    assert loss == pytest.approx(float(values[10:].norm() / values.norm()), rel=1e-3)
    assert update.rank == 10


def test_a_rank_that_is_enough_loses_nothing(first):
    made = resize(first, 3, None)
    assert all(loss == 0 for loss in made.losses.values())
    wanted = dict(deltas(first))
    assert all(near(update.delta(), wanted[update.name]) for update in made.updates)


def test_nothing_is_approximated_by_nothing():
    update, loss = approximate("x", torch.zeros(4, 3), 2)
    assert (loss, float(update.delta().abs().max())) == (0.0, 0.0)


def test_the_same_matrix_gives_the_same_factors_whatever_was_drawn_before():
    matrix = torch.randn(40, 30)
    first, _ = approximate("x", matrix, 5)
    torch.rand(7)
    again, _ = approximate("x", matrix, 5)
    assert first.down.equal(again.down)


# Writing


def test_what_is_written_reads_back(first, tmp_path):
    made = resize(first, 2, None)
    write_plain_lora(made, tmp_path / "out")
    saved = read_adapter(tmp_path / "out")
    wanted = {update.name: update.delta() for update in made.updates}
    assert all(near(delta, wanted[name]) for name, delta in deltas(saved))
    assert json.loads(saved.metadata["approximation_error"]) == pytest.approx(dict(made.losses), rel=1e-2)


def test_what_is_there_is_not_overwritten(first, tmp_path):
    with pytest.raises(AdapterError, match="is there already"):
        write_plain_lora(resize(first, 2, None), tmp_path / "first")


# Comparing


def test_an_adapter_is_not_apart_from_itself(first):
    pairs = compare(first, first, None)
    assert all((pair.apart, round(pair.cosine, 4)) == (0.0, 1.0) for pair in pairs.values())


def test_twice_an_adapter_is_half_apart_and_points_the_same_way(first, tmp_path):
    twice = save(tmp_path / "twice", [attrs.evolve(module(Q), scale=2.0)])
    pairs = compare(first, twice, None)
    assert pairs[Q].apart == pytest.approx(0.5, rel=1e-4)
    assert pairs[Q].cosine == pytest.approx(1, rel=1e-4)
    assert (pairs[UP].apart, pairs[UP].second, pairs[UP].cosine) == (1.0, 0.0, 0.0)


def test_norms_are_frobenius_norms(first, model):
    wanted = {name: float(delta.norm()) for name, delta in deltas(first)}
    assert norms(first, None) == pytest.approx(wanted, rel=1e-4)
    base = BaseWeights(model)
    shares = {name: size / float(base.weight(name).norm()) for name, size in wanted.items()}
    assert norms(first, base, relative=True) == pytest.approx(shares, rel=1e-4)


def test_norms_of_what_depends_on_the_weights_need_them(dora, model):
    with pytest.raises(AdapterError, match=r"dora in .* depends on the weights of the model"):
        norms(dora, None)
    assert norms(dora, BaseWeights(model))[Q] > 0


# Extracting


@pytest.fixture
def tuned(make_checkpoint, model, tmp_path):
    """The model of the same numbers with two projections and one norm changed."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "tuned" / "acestep-v15-tuned"
    shutil.copytree(model.path, folder)
    tensors = load_file(folder / "model.safetensors")
    for update in (module(Q, size=0.05), module(UP, size=0.05)):
        tensors[f"decoder.{update.name}.weight"] += update.delta()
    tensors["decoder.condition_embedder.weight"] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "silence_latent.pt").unlink()
    shutil.copy(model.silence, folder.parent)
    return resolve_model(folder, "acestep-v15-tuned")


def test_the_difference_of_two_models_is_a_lora(model, tuned):
    found = extract(model, tuned, rank=3)
    wanted = {Q: module(Q, size=0.05).delta(), UP: module(UP, size=0.05).delta()}
    assert {update.name for update in found.lora.updates} == set(wanted)
    assert all(near(update.delta(), wanted[update.name], 1e-3) for update in found.lora.updates)
    assert found.left_out == ("condition_embedder",)
    assert found.lora.metadata["base_identity"] == identity(model)


def test_equal_models_have_no_difference(model):
    with pytest.raises(AdapterError, match="do not differ in any projection"):
        extract(model, model, rank=3)


def test_models_of_different_sizes_are_refused(model, make_checkpoint):
    with pytest.raises(AdapterError, match="are not of one size"):
        extract(model, resolve_model(make_checkpoint(layers=2), "base"), rank=3)


# Effect


def effect(saved, model, **more):
    settings = {"seconds": 1.0, "seed": 1, "device": "cpu", "dtype": torch.float32, **more}
    return measure_effect(saved, model, **settings)


def test_layers_move_from_the_first_that_is_adapted_on(tmp_path, model):
    found = effect(save(tmp_path / "up", [module(UP)]), model)
    assert found.layers[0] == 0
    assert all(moved > 1e-3 for moved in (*found.layers[1:], found.flow))
    assert (found.nothing, found.modules) == (False, 1)


def test_the_seed_decides(first, model):
    assert effect(first, model) == effect(first, model)
    assert effect(first, model) != effect(first, model, seed=2)


def test_an_untrained_adapter_does_nothing(tmp_path, model):
    zero = attrs.evolve(module(Q), up=torch.zeros(64, 3))
    found = effect(save(tmp_path / "zero", [zero]), model)
    assert (found.nothing, found.flow, set(found.layers)) == (True, 0.0, {0.0})


def test_dora_has_an_effect(dora, model):
    assert not effect(dora, model).nothing


# Owners and pictures


def test_the_model_of_an_adapter_is_found_among_others(make_checkpoint):
    root = make_checkpoint(variants=("base", "turbo"))
    models = find_models(root)
    turbo = resolve_model(root, "turbo")
    metadata = {"base_model": turbo.name, "base_identity": identity(turbo)}
    assert find_owner(models, metadata) == turbo
    assert find_owner(models, {"base_identity": "other"}) is None
    assert find_owner(models, {}) is None
    assert owner_fault(turbo, metadata) == ""
    assert owner_fault(models[0], metadata) == f"the adapter was trained on {turbo.name!r}, this is {models[0].name!r}"
    assert "another version of it" in owner_fault(turbo, {**metadata, "base_identity": "old"})


def test_a_picture_is_drawn_in_the_form_of_its_ending(tmp_path):
    values = {Q: 0.5, UP: 1.0, "condition_embedder": 2.0}
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        draw_modules(values, tmp_path / name, title="t", label="l")
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ConfigError, match=r"neither \.png nor \.svg"):
        draw_modules(values, tmp_path / "a.doc", title="t", label="l")


def test_the_same_values_give_the_same_picture(tmp_path):
    for name in ("a.svg", "b.svg"):
        draw_modules({Q: 0.5, UP: 1.0}, tmp_path / name, title="t", label="l")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_file_that_says_nothing_has_no_owner(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(tensor_bytes({}, {}))
    with pytest.raises(AdapterError, match="holds no tensors"):
        read_adapter(tmp_path / "x.safetensors").modules()
