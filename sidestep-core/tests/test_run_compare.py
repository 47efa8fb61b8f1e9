"""Settings of runs side by side."""

from pathlib import Path

import pytest
from sidestep_core.run_compare import differences, flat_settings
from sidestep_core.runs import Run


def run(**settings):
    return Run(
        path=Path("run"), name="run", status="complete", created=1.0, adapter_type="", variant="", settings=settings
    )


def test_settings_are_named_by_table():
    settings = flat_settings(run(train={"epochs": 3, "lr": None}, adapter={"type": "lora", "rank": 8}))
    assert settings == {"train.epochs": 3, "train.lr": None, "adapter.type": "lora", "adapter.rank": 8}


def test_settings_of_components_in_a_list_are_named_by_component():
    chosen = [{"type": "cosine", "floor": 0.1}, {"type": "cruise", "target": 0.5}]
    assert flat_settings(run(**{"lr-control": chosen})) == {
        "lr-control": ["cosine", "cruise"],
        "lr-control.cosine.floor": 0.1,
        "lr-control.cruise.target": 0.5,
    }


@pytest.mark.parametrize("value", [[], [1, 2], ["q_proj"], [{"rank": 3}]])
def test_other_lists_are_values(value):
    assert flat_settings(run(targets={"modules": value})) == {"targets.modules": value}


def test_only_what_differs_is_told():
    found = differences([run(train={"epochs": 3, "seed": 1}), run(train={"epochs": 5, "seed": 1})])
    assert found == {"train.epochs": [3, 5]}


def test_what_one_run_does_not_have_is_none():
    found = differences([run(adapter={"rank": 8}), run(adapter={"factor": 4}), run()])
    assert found == {"adapter.rank": [8, None, None], "adapter.factor": [None, 4, None]}


def test_where_runs_are_written_is_no_difference():
    assert differences([run(run={"output_dir": "a", "run_name": "a"}), run(run={"output_dir": "b"})]) == {}


def test_equal_runs_have_no_differences():
    assert differences([run(train={"epochs": 3})] * 2) == {}
