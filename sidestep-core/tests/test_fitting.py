"""Whether a run fits, and which change is named when it does not: on models of the published sizes, without weights."""

import attrs
import pytest
from sidestep_core.fitting import Machine, first_relief, fit, verdict
from sidestep_core.knobs import knobs
from sidestep_core.memory import SAFE
from sidestep_core.model.layout import resolve_model
from sidestep_core.options import config, option
from sidestep_core.plan import make_plan
from sidestep_core.requests import Chosen
from sidestep_core.testing.hollow import write_hollow
from sidestep_core.testing.tiny_run import SmallConfig, tiny_components, tiny_request, write_noise

GB = 10**9


@pytest.fixture(scope="module")
def hollow(tmp_path_factory):
    root = tmp_path_factory.mktemp("hollow")
    for variant in ("base", "xl-base"):
        write_hollow(root, variant)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    made = write_noise(tmp_path_factory.mktemp("store"), model, frames=[30], rows=[3])
    # a song of four minutes, of which nothing but the length is read
    return attrs.evolve(made, model="", songs=(attrs.evolve(made.songs[0], frames=6000, rows=200),))


@pytest.fixture
def plan(tmp_path, hollow, store):
    def make(variant="base", rank=64, optimizer="adamw", **tables):
        components = tiny_components(small=SmallConfig(rank=rank), optimizer=optimizer)
        return make_plan(tiny_request(tmp_path / "run", **tables), components, resolve_model(hollow, variant), [store])

    return make


def on(gigabytes, device="cuda"):
    return Machine(device=device, precision="bf16", free=round(gigabytes * GB))


@pytest.mark.parametrize(
    ("total", "expected"), [(90, "fits"), (91, "tight"), (100, "tight"), (101, "does not fit"), (0, "fits")]
)
def test_a_tenth_is_left_for_the_estimate_to_be_wrong(total, expected):
    assert verdict(total, 100) == expected


def test_where_there_is_room_nothing_is_recomputed(plan):
    found = fit(plan(), on(80))
    assert (found.verdict, found.recomputed, found.change) == ("fits", 0, None)


def test_as_few_layers_are_recomputed_as_the_memory_forces(plan):
    found = fit(plan(), on(12))
    assert 0 < found.recomputed < 24
    assert found.memory.total(found.recomputed) <= SAFE * 12 * GB < found.memory.total(found.recomputed - 1)
    assert (found.verdict, found.change) == ("fits", None)


def test_settings_win_over_what_memory_would_choose(plan):
    assert fit(plan(memory={"gradient_checkpointing": True}), on(80)).recomputed == 24
    assert fit(plan(memory={"gradient_checkpointing": False}), on(12)).recomputed == 0


@pytest.mark.parametrize(
    ("tables", "free", "flags"),
    [
        ({"memory": {"gradient_checkpointing_ratio": 0.25}}, 12, "--gradient-checkpointing-ratio 1"),
        (
            {"memory": {"gradient_checkpointing": False}},
            12,
            "--gradient-checkpointing --gradient-checkpointing-ratio 1",
        ),
        ({"train": {"batch_size": 4}}, 8, "--chunk-duration 60"),
        ({"train": {"batch_size": 4}, "data": {"chunk_duration": 30}}, 5.75, "--optimizer-type adamw8bit"),
    ],
)
def test_the_cheapest_change_that_is_enough_is_named(plan, tables, free, flags):
    found = fit(plan(**tables), on(free))
    assert found.verdict != "fits"
    assert found.change.flags == flags
    assert found.change.total <= SAFE * free * GB


def test_a_change_that_was_made_is_enough(plan):
    found = fit(plan("xl-base", data={"chunk_duration": 30}), on(8))
    assert found.change.flags == "--quantize-base nf4"
    after = fit(plan("xl-base", data={"chunk_duration": 30}, memory={"quantize_base": "nf4"}), on(8))
    assert (after.verdict, after.memory.total(32)) == ("fits", found.change.total)


def test_where_no_change_is_enough_several_are_named_together(plan):
    found = fit(plan("xl-base", rank=128), on(6))
    assert found.change.flags == ("--chunk-duration 30 --optimizer-type adamw8bit --quantize-base nf4 --block-swap 32")
    assert found.change.total <= SAFE * 6 * GB


def test_where_nothing_is_enough_nothing_is_named(plan):
    assert fit(plan(), on(1)).change is None


def test_devices_are_offered_what_they_have(plan):
    flags = {device: [knob.flags for knob in knobs(plan(), device, "fp32")] for device in ("cuda", "mps", "cpu")}
    assert [any("block-swap" in flag for flag in flags[device]) for device in flags] == [True, False, False]
    assert [any("adamw8bit" in flag for flag in flags[device]) for device in flags] == [True, False, True]


def test_ranks_are_halved_by_the_flag_of_the_adapter_type(plan):
    assert [knob.flags for knob in knobs(plan(), "cpu", "fp32")][-3:] == ["--rank 32", "--rank 16", "--rank 8"]


def test_a_type_without_a_rank_has_no_rank_to_lower(plan):
    @config
    class Sized:
        size: int = option(default=3, help="Not a rank.")

    made = plan()
    spec = attrs.evolve(made.components.adapter.spec, config=Sized, count=lambda *_: 1000, keeps=None)
    components = attrs.evolve(made.components, adapter=Chosen(spec=spec))
    found = knobs(attrs.evolve(made, components=components), "cpu", "fp32")
    assert not any("rank" in knob.flags for knob in found)


def test_every_change_on_its_own_saves_something(plan):
    from sidestep_core.knobs import Setting
    from sidestep_core.plan import workload

    made = plan("xl-base", train={"batch_size": 2})
    before = Setting(workload(made, "cuda", "bf16"), 0)
    after = [knob.turn(before) for knob in knobs(made, "cuda", "bf16")]
    assert all(setting.total < before.total for setting in after)


@pytest.mark.parametrize(
    ("recomputed", "tables", "flags"),
    [
        (0, {}, "--gradient-checkpointing-ratio 1"),
        (24, {"train": {"batch_size": 2}}, "--chunk-duration 60"),
        (24, {"data": {"max_latent_length": 600}}, "--quantize-base int8"),
    ],
)
def test_a_run_that_found_too_little_is_told_what_saves_a_tenth(plan, recomputed, tables, flags):
    assert first_relief(plan(rank=16, **tables), "cuda", "bf16", recomputed) == flags


def test_where_nothing_saves_a_tenth_nothing_is_said(plan):
    tables = {"memory": {"quantize_base": "nf4", "block_swap": 24}, "data": {"max_latent_length": 50}}
    assert first_relief(plan(rank=8, optimizer="adafactor", **tables), "cpu", "bf16", 24) == ""
