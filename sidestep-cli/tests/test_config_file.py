"""`train --config FILE`: flags from a JSON object, under the command line and over the defaults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]


@pytest.fixture
def plan(run_cli: RunCli, tensors: Path, tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that plans a run with a config file of the given content and further words."""

    def call(content: Any, *words: str) -> Any:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "flags.json").write_text(text, encoding="utf-8")
        where = ("-c", tiny_checkpoint, "-d", tensors, "-o", "run", "--dry-run", "--json", "--config", "flags.json")
        return run_cli("train", *where, *words)

    return call


def settings(result: Any) -> dict[str, Any]:
    assert result.code == 0, result.err
    return json.loads(result.out)["settings"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("key", ["gradient_accumulation", "gradient-accumulation", "grad_accum"])
def test_keys_are_flags_with_dashes_or_underscores_or_in_short(plan: Callable[..., Any], key: str) -> None:
    assert settings(plan({key: 7}))["train"]["accumulation"] == 7


def test_components_are_chosen_and_set_by_it(plan: Callable[..., Any]) -> None:
    found = settings(plan({"adapter_type": "lokr", "lokr_factor": 8, "scheduler": "linear", "target_loss": 0.4}))
    assert found["adapter"].items() >= {"type": "lokr", "factor": 8}.items()
    assert list(found["lr-control"]) == ["linear", "cruise"]


def test_lists_and_switches_are_understood(plan: Callable[..., Any]) -> None:
    targets = settings(plan({"projections": ["q_proj", "v_proj"], "target_mlp": False}))["targets"]
    assert (targets["target_modules"], targets["target_mlp"]) == (["q_proj", "v_proj"], False)


def test_the_command_line_wins_even_with_a_default(plan: Callable[..., Any]) -> None:
    found = settings(plan({"epochs": 5, "target_modules": ["q_proj"]}, "-e", "1000", "--target-modules", "v_proj"))
    assert (found["train"]["epochs"], found["targets"]["target_modules"]) == (1000, ["v_proj"])


def test_it_wins_over_a_preset(plan: Callable[..., Any]) -> None:
    assert settings(plan({"epochs": 5}, "--preset", "quick_test"))["train"]["epochs"] == 5


def test_text_stays_text(plan: Callable[..., Any]) -> None:
    assert settings(plan({"run_name": 123}))["run"]["run_name"] == "123"


def test_null_is_as_if_it_were_not_there(plan: Callable[..., Any]) -> None:
    assert "chunk_duration" not in settings(plan({"chunk_duration": None}))["data"]


def test_a_switch_that_is_off_stays_off(plan: Callable[..., Any]) -> None:
    assert plan({"preprocess": False, "dry_run": False}).code == 0


def test_settings_of_components_not_chosen_are_passed_over(plan: Callable[..., Any]) -> None:
    result = plan({"loha_factor": 3, "scheduler_formula": ""})
    assert (result.code, result.err) == (0, "")


def test_what_no_option_is_called_is_named(plan: Callable[..., Any]) -> None:
    result = plan({"bogus": 1, "epochs": 2})
    assert result.code == 0
    assert "'bogus' in --config is nothing that 'sidestep train' takes" in result.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[1]", "must hold a JSON object"),
        ('{"lr": {"a": 1}}', "'lr' holds {'a': 1}"),
        ('{"rank": "many"}', "'many' is not a valid integer"),
        ('{"epochs": 0}', "--epochs: must be at least 1, got 0"),
        (" " * 1_000_001, "at most 1,000,000 are read"),
    ],
)
def test_a_file_that_says_nothing_usable_is_refused_in_a_line(
    plan: Callable[..., Any], content: str, words: str
) -> None:
    result = plan(content)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


def test_a_file_that_is_not_there_is_named(run_cli: RunCli) -> None:
    result = run_cli("train", "--config", "none.json", "--dry-run")
    assert result.code == 2
    assert "'none.json' cannot be read" in result.err
