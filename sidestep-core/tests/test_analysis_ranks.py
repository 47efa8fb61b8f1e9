"""The rule from scores to ranks, on worked vectors; budgets; what is left out."""

import random

import attrs
import pytest
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.fitting import fit_ranks
from sidestep_core.analysis.ranks import assign_ranks, base_for_budget, category_of, choose, round_to_step, weigh
from sidestep_core.errors import ConfigError
from sidestep_core.model.dims import ModelDims, projection_shapes
from sidestep_core.model.tiny import tiny_config
from sidestep_core.testing.tiny_run import SMALL

# score, effective rank (-1: not known), rank (0: left out) at base 64 between 16 and 128
WORKED = {
    "layers.0.self_attn.q_proj": (4e-06, 900, 80),
    "layers.0.self_attn.k_proj": (2e-06, 700, 48),
    "layers.0.self_attn.v_proj": (9e-06, 800, 112),
    "layers.0.self_attn.o_proj": (1e-06, 1000, 0),
    "layers.0.cross_attn.q_proj": (5e-08, 950, 0),
    "layers.0.cross_attn.v_proj": (7e-08, 640, 16),
    "layers.0.mlp.gate_proj": (3e-06, 1500, 88),
    "layers.0.mlp.down_proj": (8e-07, 1400, 0),
    "layers.1.self_attn.q_proj": (2.5e-06, 880, 56),
    "layers.1.self_attn.v_proj": (1.6e-05, -1, 128),
    "layers.1.cross_attn.o_proj": (6e-08, 1010, 0),
    "layers.1.mlp.up_proj": (5e-07, 1600, 0),
}
SCORES = {name: score for name, (score, _, _) in WORKED.items()}
EFFECTIVE = {name: effective for name, (_, effective, _) in WORKED.items()}


def names_of(layers):
    kinds = [f"{block}_attn.{name}_proj" for block in ("self", "cross") for name in "qkvo"]
    return [f"layers.{i}.{kind}" for i in range(layers) for kind in (*kinds, "mlp.gate_proj", "mlp.up_proj")]


def test_ranks_are_those_of_the_worked_example():
    ranks = assign_ranks(weigh(SCORES, EFFECTIVE), base=64, low=16, high=128)
    assert ranks == {name: rank for name, (_, _, rank) in WORKED.items() if rank}


def test_ranks_come_with_the_highest_score_first():
    ranks = assign_ranks(weigh(SCORES, EFFECTIVE), base=64, low=16, high=128)
    scores = [SCORES[name] for name in ranks]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("value", "step"), [(3.9, 0), (4.0, 0), (4.1, 8), (12.0, 16), (20.0, 16), (28.0, 32), (60.1, 64), (68.0, 64)]
)
def test_a_half_step_goes_to_the_even_multiple(value, step):
    assert round_to_step(value) == step


def test_the_first_55_per_cent_are_chosen():
    scores = {f"layers.{i}.self_attn.q_proj": float(i + 1) for i in range(20)}
    assert choose(scores) == [f"layers.{i}.self_attn.q_proj" for i in range(19, 8, -1)]


@pytest.mark.parametrize("category", ["self_attn", "cross_attn", "mlp"])
def test_a_tenth_of_every_category_is_chosen_however_low_its_scores(category):
    names = names_of(10)
    scores = {name: (1e-9 if category_of(name) == category else 1.0) * (1 + i / 100) for i, name in enumerate(names)}
    members = [name for name in names if category_of(name) == category]
    chosen = [name for name in choose(scores) if category_of(name) == category]
    assert chosen == sorted(members, key=lambda name: -scores[name])[: len(members) // 10]


def test_one_projection_alone_is_chosen():
    assert choose({"layers.0.mlp.up_proj": 1e-12}) == ["layers.0.mlp.up_proj"]


def test_a_projection_without_a_gradient_gets_no_rank_even_if_all_of_its_category_have_none():
    scores = {name: 0.0 if category_of(name) == "cross_attn" else 1.0 for name in names_of(3)}
    ranks = assign_ranks(weigh(scores, {}), base=64, low=16, high=128)
    assert {category_of(name) for name in ranks} == {"self_attn", "mlp"}


def test_without_any_gradient_nothing_gets_a_rank():
    assert assign_ranks(weigh(dict.fromkeys(names_of(2), 0.0), {}), base=64, low=16, high=128) == {}


def test_effective_ranks_that_are_not_known_change_nothing():
    scores = {name: random.Random(name).random() for name in names_of(4)}
    without = assign_ranks(weigh(scores, {}), base=64, low=16, high=128)
    assert assign_ranks(weigh(scores, dict.fromkeys(scores, -1)), base=64, low=16, high=128) == without
    assert assign_ranks(weigh(scores, dict.fromkeys(scores, 300)), base=64, low=16, high=128) == without


def test_ranks_keep_between_the_smallest_and_the_largest():
    scores = {name: 10.0 ** random.Random(name).uniform(-12, 0) for name in names_of(6)}
    ranks = set(assign_ranks(weigh(scores, {}), base=64, low=24, high=96).values())
    assert {min(ranks), max(ranks)} == {24, 96}


def test_scores_alike_are_chosen_by_name_whatever_their_order():
    names = names_of(4)
    shuffled = random.Random(3).sample(names, len(names))
    assert choose(dict.fromkeys(names, 1.0)) == choose(dict.fromkeys(shuffled, 1.0))


@pytest.fixture(scope="module")
def dims():
    return ModelDims.from_config(tiny_config("base"), "tiny")


@pytest.fixture(scope="module")
def scores(dims):
    return {name: 10.0 ** random.Random(name).uniform(-7, -5) for name in projection_shapes(dims)}


def trained(dims, ranks):
    shapes = projection_shapes(dims)
    return sum(rank * sum(shapes[name]) for name, rank in ranks.items())


def test_without_a_budget_the_base_is_the_rank(dims, scores):
    fitted = fit_ranks(AnalyzeConfig(rank=32), SMALL, dims, scores, {})
    assert (fitted.base, fitted.trainable) == (32, trained(dims, fitted.ranks))


@pytest.mark.parametrize("budget", [70_000, 100_000, 250_000])
def test_a_budget_is_kept_and_used(dims, scores, budget):
    fitted = fit_ranks(AnalyzeConfig(budget=budget), SMALL, dims, scores, {})
    larger = next(
        ranks
        for base in range(fitted.base + 1, 1025)
        if (ranks := assign_ranks(weigh(scores, {}), base=base, low=16, high=128)) != fitted.ranks
    )
    assert fitted.trainable == trained(dims, fitted.ranks) <= budget < trained(dims, larger)


def test_a_budget_larger_than_the_largest_ranks_takes_the_largest_ranks(dims, scores):
    fitted = fit_ranks(AnalyzeConfig(budget=10**9), SMALL, dims, scores, {})
    assert set(fitted.ranks.values()) == {128}


def test_a_budget_too_small_for_the_smallest_ranks_is_refused_with_what_they_take(dims, scores):
    least = trained(dims, dict.fromkeys(choose(scores), 16))
    with pytest.raises(ConfigError, match=rf"^--budget {least - 1}: the smallest ranks already train {least:,} "):
        fit_ranks(AnalyzeConfig(budget=least - 1), SMALL, dims, scores, {})
    assert fit_ranks(AnalyzeConfig(budget=least), SMALL, dims, scores, {}).trainable == least


def test_a_budget_counts_sizes_as_the_adapter_type_takes_them(dims, scores):
    halving = attrs.evolve(SMALL, sizes=lambda _, targets: [attrs.evolve(t, rank=t.rank // 2) for t in targets])
    fitted = fit_ranks(AnalyzeConfig(), halving, dims, scores, {})
    assert 2 * fitted.trainable == trained(dims, fitted.ranks)


def test_a_budget_needs_a_type_that_can_count(dims, scores):
    silent = attrs.evolve(SMALL, count=None)
    assert fit_ranks(AnalyzeConfig(), silent, dims, scores, {}).trainable is None
    with pytest.raises(ConfigError, match="'small' cannot tell how many"):
        fit_ranks(AnalyzeConfig(budget=100_000), silent, dims, scores, {})


def test_of_bases_that_train_alike_the_smallest_is_taken():
    steps = {base: 8 * (base // 100) for base in range(1, 1025)}
    assert base_for_budget(20, lambda base: {"one": steps[base]}, lambda ranks: ranks["one"]) == 200


@pytest.mark.parametrize("focus", ["loud", "0.4", "0.6,0.2", "-0.1,0.5", "0,1.5", "a,b", "nan,1"])
def test_a_focus_that_is_none_is_refused(focus):
    with pytest.raises(ValueError, match="timestep_focus must be balanced, texture, structure or LOW,HIGH"):
        AnalyzeConfig(timestep_focus=focus)


def test_the_smallest_rank_must_not_be_above_the_largest():
    with pytest.raises(ValueError, match=r"rank_min \(32\) must not be above rank_max \(16\)"):
        AnalyzeConfig(rank_min=32, rank_max=16)
