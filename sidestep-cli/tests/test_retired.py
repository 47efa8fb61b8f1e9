"""Options of older command lines that have nothing left to do."""

from __future__ import annotations

import pytest
from sidestep_cli.retired import TRAINING


@pytest.mark.parametrize("flag", TRAINING)
def test_a_retired_option_is_taken_and_said_to_have_no_effect(run_cli, tensors, tiny_checkpoint, flag):
    value = [] if TRAINING[flag][0] else ["1"]
    plan = ("train", "--checkpoint-dir", tiny_checkpoint, "--dataset-dir", tensors, "--output-dir", "out", "--dry-run")
    result = run_cli(*plan, flag, *value)
    assert result.code == 0, result.err
    assert f"{flag} has no effect any more" in result.err


def test_the_other_half_of_a_pair_is_taken_too(run_cli, tensors, tiny_checkpoint):
    plan = ("train", "--checkpoint-dir", tiny_checkpoint, "--dataset-dir", tensors, "--output-dir", "out", "--dry-run")
    assert run_cli(*plan, "--no-offload-encoder").code == 0


def test_help_does_not_show_them(run_cli):
    shown = run_cli("train", "--help").out
    assert [flag for flag in TRAINING if flag in shown] == []
