"""Runs with a rank map: what is adapted, what is said, and what a resume must share."""

import json

import attrs
import pytest
from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import AdapterError, ConfigError, ResumeError
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import read_record
from sidestep_core.testing.tiny_run import SMALL, tiny_components, tiny_plan, write_noise, write_ranks
from sidestep_core.training.loop import train

RANKS = {
    "layers.0.self_attn.q_proj": 24,
    "layers.1.self_attn.v_proj": 96,
    "layers.1.cross_attn.k_proj": 16,
    "layers.3.mlp.down_proj": 40,
}


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture
def store(model, tmp_path):
    return write_noise(tmp_path / "tensors", model, frames=[50, 60])


@pytest.fixture
def file(store, model):
    return write_ranks(store, model, RANKS)


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(components=None, **tables):
        return tiny_plan(tiny_checkpoint, store, tmp_path / "run", components, **tables)

    return make


def ranks_of(plan):
    return {target.name: target.rank for target in plan.targets}


def test_exactly_the_projections_of_the_map_are_adapted_with_its_ranks(plan, file):
    made = plan()
    assert ranks_of(made) == RANKS
    assert {target.alpha / target.rank for target in made.targets} == {2}
    assert made.rank_map.path == file


def test_targets_stand_in_the_models_order_whatever_the_maps(plan, store, model):
    write_ranks(store, model, dict(reversed(RANKS.items())))
    assert list(ranks_of(plan())) == list(RANKS)


def test_without_a_map_everything_is_adapted(plan):
    made = plan()
    assert (len(made.targets), made.rank_map) == (44, None)


def test_a_map_that_is_left_out_changes_nothing(plan, file):
    made = plan(targets={"ignore_fisher_map": True})
    assert (len(made.targets), made.rank_map) == (44, None)


@pytest.mark.parametrize(
    ("targets", "left"),
    [
        ({"attention": "self"}, [0, 1, 3]),
        ({"target_mlp": False}, [0, 1, 2]),
        ({"exclude_modules": ("layers.1.*",)}, [0, 3]),
        ({"include_modules": ("*.q_proj", "*.k_proj")}, [0, 2]),
    ],
)
def test_settings_of_what_is_adapted_narrow_the_map_down(plan, file, targets, left):
    names = list(RANKS)
    assert list(ranks_of(plan(targets=targets))) == [names[i] for i in left]


def test_a_rank_given_by_hand_wins_over_the_maps(plan, file):
    made = plan(targets={"module_ranks": ("layers.1.*=8/8",)})
    assert ranks_of(made) == {**RANKS, "layers.1.self_attn.v_proj": 8, "layers.1.cross_attn.k_proj": 8}
    assert [target.alpha for target in made.targets] == [48, 8, 8, 80]


def test_settings_that_leave_nothing_of_the_map_are_refused(plan, file):
    with pytest.raises(AdapterError, match=r"none of the 4 .* is among the 4 of the rank map; .* --ignore-fisher-map"):
        plan(targets={"target_modules": ("cross_attn.o_proj",), "target_mlp": False})


def test_an_adapter_type_may_take_ranks_its_own_way(plan, file):
    halving = attrs.evolve(SMALL, sizes=lambda config, targets: [attrs.evolve(t, rank=t.rank // 2) for t in targets])
    parts = tiny_components()
    made = plan(attrs.evolve(parts, adapter=attrs.evolve(parts.adapter, spec=halving)))
    assert ranks_of(made) == {name: rank // 2 for name, rank in RANKS.items()}
    assert made.trainable == sum(t.rank * (t.out_features + t.in_features) for t in made.targets)


@pytest.mark.parametrize(("rate", "told"), [(None, False), (1e-4, False), (1.1e-4, True), (3e-4, True)])
def test_a_high_learning_rate_is_advised_against(plan, file, rate, told):
    # the request's own rate when none is given here is 1e-2
    made = plan(train={"learning_rate": rate} if rate else {"learning_rate": 5e-5})
    assert any("is high for training with a rank map" in line for line in made.notices) == told


def test_the_usual_rate_is_advised_against_too(plan, file):
    (line,) = plan(train={"learning_rate": None}).notices
    assert line == "--lr 0.0003 is high for training with a rank map; at most 0.0001 is advised, such as 5e-5"


def test_an_optimizer_with_a_rate_of_its_own_is_left_alone(plan, file):
    assert plan(tiny_components(optimizer="prodigy"), train={"learning_rate": None}).notices == ()


def test_without_a_map_no_rate_is_advised_against(plan):
    assert plan(train={"learning_rate": 1e-2}).notices == ()


def test_a_budget_counted_for_another_type_is_pointed_out(plan, store, model):
    write_ranks(store, model, RANKS, budget=1000, adapter_type="lora")
    (line,) = plan(train={"learning_rate": 5e-5}).notices
    assert line.endswith("was counted for lora; small trains another number")
    write_ranks(store, model, RANKS, budget=1000, adapter_type="small")
    assert plan(train={"learning_rate": 5e-5}).notices == ()


def test_a_map_that_does_not_fit_stops_the_run_before_it_begins(plan, file, tmp_path):
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "dataset_hash": "other"}))
    with pytest.raises(ConfigError, match="made for other tensors"):
        plan()
    assert not (tmp_path / "run").exists()


def test_the_run_and_its_adapter_say_which_map_they_had(plan, file):
    made = plan(train={"max_steps": 1})
    list(train(made))
    assert read_record(made.run)["rank_map"] == str(file)
    assert f"rank_map: {made.rank_map.hash}" in (made.run / "final" / "metadata.txt").read_text()


@pytest.fixture
def stopped(plan, file):
    """A run with the map that was stopped after a step."""
    list(train(plan(train={"max_steps": 1})))


def resume(plan, **targets):
    made = plan(train={"max_steps": 2}, run={"resume_from": "latest"}, targets=targets)
    return list(train(made))


@pytest.mark.usefixtures("stopped")
def test_a_run_goes_on_with_the_same_map(plan):
    assert resume(plan)[-1].step == 2


@pytest.mark.usefixtures("stopped")
def test_a_run_goes_on_with_the_same_map_in_another_place(plan, file, tmp_path):
    file.rename(tmp_path / "moved.json")
    assert resume(plan, fisher_map=tmp_path / "moved.json")[-1].step == 2


@pytest.mark.usefixtures("stopped")
def test_a_run_does_not_go_on_with_other_ranks(plan, store, model):
    write_ranks(store, model, {**RANKS, "layers.0.self_attn.q_proj": 32})
    with pytest.raises(ResumeError, match=r"targets\.rank_map was '[0-9a-f]{32}', now '[0-9a-f]{32}'"):
        resume(plan)


@pytest.mark.usefixtures("stopped")
def test_a_run_does_not_go_on_without_its_map(plan, file):
    file.unlink()
    with pytest.raises(ResumeError, match=r"targets\.rank_map was '[0-9a-f]{32}', now None"):
        resume(plan)


def test_a_run_without_a_map_does_not_go_on_with_one(plan, store, model):
    list(train(plan(train={"max_steps": 1})))
    write_ranks(store, model, RANKS)
    with pytest.raises(ResumeError, match=r"targets\.rank_map was None, now "):
        resume(plan)
    assert resume(plan, ignore_fisher_map=True)[-1].step == 2


def test_a_set_that_was_never_analyzed_needs_no_flag():
    assert TargetsConfig().ignore_fisher_map is False
