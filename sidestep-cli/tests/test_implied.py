"""Settings of older command lines that choose their component by themselves."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def plan(run_cli, tensors, tiny_checkpoint):
    """Return a function that gives the plan of a command line as JSON."""

    def call(*args: str) -> dict[str, object]:
        fixed = ("--checkpoint-dir", tiny_checkpoint, "--dataset-dir", tensors, "--output-dir", "out")
        result = run_cli("train", *fixed, "--dry-run", "--json", *args)
        assert result.code == 0, result.err
        return json.loads(result.out)

    return call


def test_a_target_loss_turns_cruise_control_on_beside_the_schedule(plan):
    text = json.dumps(plan("--target-loss", "0.5", "--scheduler-type", "linear"))
    assert "cruise" in text
    assert "linear" in text


def test_without_a_target_loss_there_is_no_cruise_control(plan):
    assert "cruise" not in json.dumps(plan())


def test_the_same_choice_twice_is_one_controller(plan):
    assert json.dumps(plan("--target-loss=0.5", "--lr-control", "cruise")).count('"cruise"') == 1


def test_an_adaptive_share_chooses_adaptive_timesteps(plan):
    assert '"adaptive"' in json.dumps(plan("--adaptive-timestep-ratio", "0.3"))


def test_a_sampler_that_was_named_is_not_overruled(run_cli, tensors, tiny_checkpoint):
    fixed = ("--checkpoint-dir", tiny_checkpoint, "--dataset-dir", tensors, "--output-dir", "out", "--dry-run")
    result = run_cli("train", *fixed, "--timestep-mode", "discrete", "--adaptive-timestep-ratio", "0.3")
    assert result.code == 2
    assert "--adaptive-timestep-ratio" in result.err


@pytest.mark.parametrize("words", [("--log-dir", "logs"), ("--log-heavy-every", "10")])
def test_a_setting_of_tensorboard_chooses_it_beside_the_progress_file(plan, words):
    text = json.dumps(plan(*words))
    assert '"tensorboard"' in text
    assert '"progress"' in text


def test_without_a_log_folder_there_is_no_tensorboard(plan):
    assert "tensorboard" not in json.dumps(plan())
