"""Rank maps in training: every adapter type adapts exactly the projections of the map, in the sizes it gives."""

import json

import attrs
import pytest
from safetensors.torch import load_file
from sidestep_adapters.configs import OftConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_adapters.sizes import mapped_blocks
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.result import write_map
from sidestep_core.analysis.run import analyze
from sidestep_core.analysis.work import Work
from sidestep_core.model.layout import identity, resolve_model
from sidestep_core.requests import Chosen
from sidestep_core.runs import checkpoints
from sidestep_core.targets import Target
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise, write_ranks
from sidestep_core.training.loop import train

TYPES = {spec.name: spec for spec in sidestep_adapters()}


@pytest.fixture(scope="module")
def base(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


def analysis_of(base, store, **settings):
    asked = {"runs": 1, "batches": 3, "rank": 24, "rank_min": 4, "rank_max": 64, **settings}
    config = AnalyzeConfig(dataset_dir=(store.path,), **asked)
    work = Work(
        config=config,
        adapter=TYPES[config.adapter_type],
        model=base,
        identity=identity(base),
        stores=[store],
        device="cpu",
        precision="fp32",
        cache=store.path / "cache",
        cancelled=lambda: False,
    )
    return list(analyze(work))[-1].analysis


@pytest.fixture(scope="module")
def store(base, tmp_path_factory):
    """Tensors with the rank map of a real analysis beside them."""
    store = write_noise(tmp_path_factory.mktemp("tensors"), base, frames=[40, 30, 50])
    write_map(analysis_of(base, store), store.path / "fisher_map.json")
    return store


@pytest.fixture(scope="module")
def ranks(store):
    return json.loads((store.path / "fisher_map.json").read_text())["rank_pattern"]


@pytest.fixture(scope="module")
def trained(store, tiny_checkpoint, tmp_path_factory):
    """Return a function that gives the plan of a run of two steps of a type, trained once."""
    done = {}

    def get(name):
        if name not in done:
            parts = attrs.evolve(tiny_components(), adapter=Chosen(spec=TYPES[name]))
            table = {"max_steps": 2, "learning_rate": 5e-2, "conditioning_dropout": 0.0}
            run = tmp_path_factory.mktemp("trained") / name
            done[name] = tiny_plan(tiny_checkpoint, store, run, parts, train=table)
            list(train(done[name]))
        return done[name]

    return get


@pytest.mark.parametrize("name", TYPES)
def test_exactly_the_projections_of_the_map_are_changed(trained, plain, ranks, name):
    found = plain.deltas(trained(name).run / "final")
    assert found.keys() == ranks.keys()
    assert 0 < len(ranks) < 44


@pytest.mark.parametrize("name", TYPES)
def test_nothing_else_has_a_parameter(trained, ranks, name):
    (_, newest) = checkpoints(trained(name).run)[-1]
    names = {".".join(key.split(".")[:4]) for key in load_file(newest / "adapter.safetensors")}
    assert names == ranks.keys()


@pytest.mark.parametrize("name", TYPES)
def test_the_plan_counts_what_is_trained(trained, name):
    plan = trained(name)
    (_, newest) = checkpoints(plan.run)[-1]
    assert plan.trainable == sum(tensor.numel() for tensor in load_file(newest / "adapter.safetensors").values())


@pytest.mark.parametrize(
    ("name", "part", "side"), [("lora", "lora_A.weight", 0), ("dora", "lora_A.weight", 0), ("loha", "hada_w1_b", 0)]
)
def test_every_projection_has_the_rank_of_the_map(trained, ranks, name, part, side):
    (_, newest) = checkpoints(trained(name).run)[-1]
    tensors = load_file(newest / "adapter.safetensors")
    assert {key: tensors[f"{key}.{part}"].shape[side] for key in ranks} == ranks
    assert len(set(ranks.values())) > 2


def test_lokr_splits_its_second_factor_as_the_rank_says(trained, ranks):
    (_, newest) = checkpoints(trained("lokr").run)[-1]
    tensors = load_file(newest / "adapter.safetensors")
    split = {key: tensors[f"{key}.lokr_w2_a"].shape[1] for key in ranks if f"{key}.lokr_w2_a" in tensors}
    assert split == {key: ranks[key] for key in split}


def test_oft_has_blocks_of_the_nearest_power_of_two(trained, ranks):
    (_, newest) = checkpoints(trained("oft").run)[-1]
    tensors = load_file(newest / "adapter.safetensors")
    for target in trained("oft").targets:
        blocks, angles = tensors[f"{target.name}.oft_R.weight"].shape
        size = target.in_features // blocks
        assert angles == size * (size - 1) // 2
        assert size == target.rank
        assert size / 2**0.5 <= ranks[target.name] <= size * 2**0.5


@pytest.mark.parametrize(
    ("rank", "block"), [(1, 2), (3, 4), (16, 16), (24, 32), (40, 32), (48, 64), (88, 64), (96, 128)]
)
def test_a_rank_becomes_the_nearest_power_of_two(rank, block):
    target = Target(name="layers.0.mlp.up_proj", out_features=6144, in_features=2048, rank=rank, alpha=2 * rank)
    assert mapped_blocks(OftConfig(), [target]) == [attrs.evolve(target, rank=block, alpha=None)]


def test_blocks_are_no_larger_than_what_divides_the_inputs_of_all():
    shapes = {"q": (64, 2048), "down": (64, 96)}
    targets = [
        Target(name=f"layers.0.{name}", out_features=out, in_features=in_, rank=128, alpha=256)
        for name, (out, in_) in shapes.items()
    ]
    assert [target.rank for target in mapped_blocks(OftConfig(), targets)] == [32, 32]


@pytest.mark.parametrize("name", TYPES)
def test_a_budget_is_kept_for_every_type(base, store, name):
    least = analysis_of(base, store, adapter_type=name, rank_min=1, rank=1).trainable
    most = analysis_of(base, store, adapter_type=name, rank_min=1, rank=1024).trainable
    budget = (least + most) // 2
    bounded = analysis_of(base, store, adapter_type=name, rank_min=1, budget=budget)
    assert least < bounded.trainable <= budget < most


@pytest.mark.parametrize("name", TYPES)
def test_ranks_as_large_as_those_of_a_real_model_train_too(base, tiny_checkpoint, tmp_path, name):
    store = write_noise(tmp_path / "tensors", base, frames=[30])
    large = {"layers.0.self_attn.q_proj": 128, "layers.1.cross_attn.v_proj": 104, "layers.2.mlp.down_proj": 24}
    write_ranks(store, base, large)
    parts = attrs.evolve(tiny_components(), adapter=Chosen(spec=TYPES[name]))
    plan = tiny_plan(tiny_checkpoint, store, tmp_path / "run", parts, train={"max_steps": 1})
    list(train(plan))
    assert {target.name for target in plan.targets} == large.keys()
    assert (plan.run / "final").is_dir()
