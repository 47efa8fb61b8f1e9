"""What a run is asked to be, and its settings as tables."""

from __future__ import annotations

import tomllib
from pathlib import Path

import attrs
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidestep_core.builtins.configs import ContinuousConfig, CosineConfig, WeightDecayConfig
from sidestep_core.configs import DataConfig, MemoryConfig, ModelConfig, RunConfig, TargetsConfig, TrainConfig
from sidestep_core.conversion import structure
from sidestep_core.options import config, option, options_of
from sidestep_core.plugins import Plugins
from sidestep_core.presets import request_tables
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.testing.tiny_run import SmallConfig

FIXED = {
    "model": ModelConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "targets": TargetsConfig,
    "memory": MemoryConfig,
    "run": RunConfig,
}
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@config
class Guarded:
    """Settings with a secret."""

    room: str = option(default="hall", help="Where.")
    token: str = option(default="", secret=True, help="A password.")


def toml(tables):
    return tomllib.loads(tomli_w.dumps(tables))


def values_of(declared):
    """Values that one setting accepts."""
    low = declared.at_least if declared.at_least is not None else declared.above
    high = declared.at_most if declared.at_most is not None else declared.below
    if declared.choices:
        one = st.sampled_from(declared.choices)
    elif declared.type is bool:
        one = st.booleans()
    elif declared.type is int:
        one = st.integers(low or 0, high if high is not None else 2**40)
    elif declared.type is float:
        one = st.floats(
            low,
            high,
            exclude_min=declared.above is not None,
            exclude_max=declared.below is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    else:
        one = TEXTS.map(declared.type)
    many = st.lists(one, max_size=3).map(tuple) if declared.many else one
    return st.none() | many if declared.nullable else many


def configs(config_type):
    values = {declared.name: values_of(declared) for declared in options_of(config_type)}
    if config_type is TrainConfig:  # the two ends of the window depend on each other
        values |= {"timestep_min": st.floats(0.0, 0.4), "timestep_max": st.floats(0.5, 1.0)}
    if config_type is DataConfig:  # checked as a whole
        few = {"min_size": 1, "max_size": 3}
        values |= {
            "dataset_repeats": st.lists(st.integers(1, 9), **few).map(tuple),
            "dataset_weights": st.lists(st.floats(0.1, 9.0), **few).map(tuple),
        }
    if config_type is TargetsConfig:  # a map is named or left out
        return st.builds(config_type, **{**values, "fisher_map": st.none()}) | st.builds(
            config_type, **{**values, "ignore_fisher_map": st.just(False)}
        )
    return st.builds(config_type, **values)


@given(st.fixed_dictionaries({name: configs(config_type) for name, config_type in FIXED.items()}))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_settings_read_back_from_their_tables(tables):
    written = toml(request_tables(TrainRequest(**tables)))
    assert {name: structure(written[name], config_type, name) for name, config_type in FIXED.items()} == tables


@pytest.mark.parametrize(
    ("slot", "field", "made"),
    [
        ("adapter", "adapter", SmallConfig(rank=7, dropout=0.25)),
        ("timesteps", "timesteps", ContinuousConfig(timestep_mu=-0.5)),
        ("optimizer", "optimizer", WeightDecayConfig(weight_decay=0.0)),
    ],
)
def test_a_chosen_component_reads_back_from_its_table(slot, field, made):
    table = toml(request_tables(TrainRequest(**{field: Choice(name="it", config=made)})))[slot]
    assert table.pop("type") == "it"
    assert structure(table, type(made), slot) == made


@pytest.mark.parametrize(("slot", "field"), [("lr-control", "controllers"), ("observe", "observers")])
def test_several_components_of_a_slot_read_back_by_name_in_their_order(slot, field):
    made = CosineConfig(cosine_eta_min_ratio=0.5)
    choices = (Choice(name="zeta", config=made), Choice(name="alpha"))
    table = toml(request_tables(TrainRequest(**{field: choices})))[slot]
    assert list(table) == ["zeta", "alpha"]
    assert structure(table["zeta"], CosineConfig, slot) == made
    assert table["alpha"] == {}


def test_a_slot_that_nothing_was_chosen_for_has_no_table():
    tables = request_tables(TrainRequest(controllers=(), observers=()))
    assert {"lr-control", "observe"}.isdisjoint(tables)


def test_secrets_stay_out_of_the_tables():
    made = Guarded(room="cellar", token="hush")
    tables = request_tables(TrainRequest(observers=(Choice(name="guard", config=made),)))
    assert tables["observe"] == {"guard": {"room": "cellar"}}
    assert "hush" not in repr(made)


def test_paths_become_text():
    tables = request_tables(TrainRequest(run=RunConfig(output_dir=Path("runs") / "größer")))
    assert tables["run"]["output_dir"] == str(Path("runs") / "größer")


def test_what_was_not_set_is_not_in_the_tables():
    assert "run_name" not in request_tables(TrainRequest())["run"]


def test_the_components_a_run_has_by_default_are_installed():
    plugins, request = Plugins(), TrainRequest()
    chosen = [
        plugins.find("adapter", request.adapter.name),
        plugins.find("timestep-sampler", request.timesteps.name),
        plugins.find("optimizer", request.optimizer.name),
        *(plugins.find("lr-controller", choice.name) for choice in request.controllers),
        *(plugins.find("observer", choice.name) for choice in request.observers),
    ]
    assert [spec.name for spec in chosen] == ["lora", "continuous", "auto", "cosine", "progress"]
    assert [spec.name for spec in chosen if spec.missing()] == []


def test_a_request_cannot_be_changed_behind_the_back_of_its_plan():
    request = TrainRequest()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.adapter = Choice(name="dora")
