"""Plain values to configs and back: strict, complete about faults, silent about secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.configs import DataConfig, TargetsConfig, TrainConfig
from sidestep_core.conversion import structure, unstructure
from sidestep_core.errors import ConfigError
from sidestep_core.options import config, option


@config
class Account:
    """Settings with a secret and a rule across fields."""

    low: float = option(default=0.2, at_least=0, help="Low.")
    high: float = option(default=0.8, help="High.")
    token: str = option(default="", secret=True, help="Key.")

    def __attrs_post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")


def faults(values, config_type, where):
    with pytest.raises(ConfigError) as caught:
        structure(values, config_type, where)
    return str(caught.value).splitlines()


def test_values_become_what_the_fields_declare():
    made = structure({"dataset_dir": ["a/b"], "chunk_duration": 30}, DataConfig, "data")
    assert (made.dataset_dir, made.chunk_duration, type(made.chunk_duration)) == ((Path("a/b"),), 30.0, float)


def test_a_misspelt_setting_gets_a_suggestion():
    assert faults({"learning_rat": 1e-4}, TrainConfig, "train") == [
        "train.learning_rat: no such setting; did you mean 'learning_rate'?"
    ]


def test_all_faults_are_reported_at_once():
    assert faults({"epochs": "3", "seed": True, "batch_size": 0, "nonsense": 1}, TrainConfig, "train") == [
        "train.batch_size: must be at least 1, got 0",
        "train.epochs: expected int, got '3'",
        "train.seed: expected int, got True",
        "train.nonsense: no such setting",
    ]


def test_several_values_out_of_bounds_are_all_named():
    assert faults({"learning_rate": 2.0, "epochs": 0, "max_grad_norm": 0}, TrainConfig, "train") == [
        "train.learning_rate: must be at most 1, got 2",
        "train.epochs: must be at least 1, got 0",
        "train.max_grad_norm: must be above 0, got 0",
    ]


def test_a_wrong_choice_lists_the_right_ones():
    assert faults({"attention": "none"}, TargetsConfig, "targets") == [
        "targets.attention: expected one of self, cross, both; got 'none'"
    ]


def test_a_wrong_item_of_a_list_is_named():
    assert faults({"target_modules": ["q_proj", 3]}, TargetsConfig, "targets") == [
        "targets.target_modules: expected str, got 3"
    ]


def test_a_rule_across_fields_speaks_for_the_table():
    assert faults({"low": 0.9, "high": 0.5}, Account, "account") == ["account: low (0.9) must be below high (0.5)"]


def test_secrets_are_never_written_out():
    assert unstructure(Account(token="hush")) == {"low": 0.2, "high": 0.8}


def test_settings_left_at_none_are_left_out():
    assert "chunk_duration" not in unstructure(DataConfig())


@given(
    st.builds(
        TrainConfig,
        learning_rate=st.floats(1e-9, 1.0),
        epochs=st.integers(1, 10**6),
        max_grad_norm=st.floats(0.1, 10.0),
    )
)
def test_what_is_written_reads_back_equal(made):
    assert structure(unstructure(made), TrainConfig, "train") == made


@given(st.lists(st.text(min_size=1)))
def test_lists_read_back_as_tuples(names):
    made = TargetsConfig(target_modules=tuple(names))
    assert structure(unstructure(made), TargetsConfig, "targets") == made


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("config_type", "name"), [(TrainConfig, "learning_rate"), (DataConfig, "chunk_duration"), (Account, "high")]
)
def test_a_number_that_is_not_finite_is_refused_once(config_type, name, value):
    assert faults({name: value}, config_type, "it") == [f"it.{name}: expected a finite number, got {value!r}"]
