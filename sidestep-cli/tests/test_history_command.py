"""`sidestep history` on real run folders, whole, unfinished and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]


def make_run(folder: Path, *lines: dict[str, Any], **record: Any) -> Path:
    folder.mkdir(parents=True)
    known = {"name": folder.name, "created": 1.0, "adapter_type": "lora", "variant": "base", "total_steps": 20}
    (folder / "run.json").write_text(json.dumps({**known, "epochs": 2, **record}))
    if lines:
        (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def step(number: int, loss: float | None) -> dict[str, Any]:
    return {"kind": "step", "step": number, "epoch": 1, "loss": loss}


def rows(run_cli: RunCli, *args: str | Path) -> list[list[str]]:
    result = run_cli("history", *args)
    assert result.code == 0, result.err
    return [line.split()[2:] for line in result.out.splitlines()[1:]]


def names(run_cli: RunCli, *args: str | Path) -> list[str]:
    return [run["name"] for run in json.loads(run_cli("history", *args, "--json").out)]


def test_a_run_that_goes_on_is_unfinished(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, 0.5))
    assert rows(run_cli) == [["unfinished", "lora", "base", "5/20", "0.5000", "run"]]


def test_before_its_first_report_a_run_has_no_loss(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert rows(run_cli) == [["unfinished", "lora", "base", "0/20", "-", "run"]]


@pytest.mark.parametrize("status", ["complete", "max-steps", "stopped", "failed"])
def test_how_a_run_ended_is_shown(run_cli: RunCli, tmp_path: Path, status: str) -> None:
    make_run(tmp_path / "run", step(5, 0.5), status=status)
    assert rows(run_cli)[0][0] == status


def test_the_best_loss_is_that_of_an_epoch_once_there_is_one(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, 0.1), {"kind": "epoch", "step": 10, "epoch": 1, "loss": 0.7})
    assert rows(run_cli)[0][4] == "0.7000"


def test_losses_that_are_no_numbers_are_left_out(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, None), step(6, 0.5), step(7, None))
    assert rows(run_cli)[0][3:5] == ["7/20", "0.5000"]


def test_steps_that_a_resume_overtook_do_not_count(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, 0.5), step(9, 0.1), {"kind": "start", "step": 5}, step(6, 0.4))
    assert rows(run_cli)[0][3:5] == ["6/20", "0.4000"]


def test_json_has_every_field_and_paths_as_text(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, 0.5), status="complete", error="")
    (tmp_path / "run" / "final").mkdir()
    (found,) = json.loads(run_cli("history", "--json").out)
    assert found == {
        "path": "run",
        "name": "run",
        "status": "complete",
        "created": 1.0,
        "adapter_type": "lora",
        "variant": "base",
        "step": 5,
        "total_steps": 20,
        "epoch": 1,
        "epochs": 2,
        "loss": 0.5,
        "best_loss": 0.5,
        "adapter": str(Path("run/final")),
        "error": "",
    }


def test_folders_are_searched_two_levels_down_and_no_further(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "all" / "zero")
    make_run(tmp_path / "all" / "a" / "one")
    make_run(tmp_path / "all" / "a" / "b" / "two")
    assert sorted(names(run_cli, "all")) == ["one", "zero"]


def test_a_run_itself_can_be_named(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "deep" / "in" / "here" / "run")
    assert names(run_cli, "deep/in/here/run") == ["run"]


def test_several_folders_are_one_list(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "old", created=1.0)
    make_run(tmp_path / "b" / "new", created=2.0)
    make_run(tmp_path / "c" / "other", created=3.0)
    assert names(run_cli, "a", "b") == ["new", "old"]


def test_a_run_found_twice_is_listed_once(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "output" / "run")
    assert names(run_cli) == ["run"]
    assert names(run_cli, "output", "output/run", ".") == ["run"]


def test_runs_of_one_moment_are_in_the_order_of_their_names(run_cli: RunCli, tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        make_run(tmp_path / name)
    assert names(run_cli) == ["a", "b", "c"]


def test_twenty_runs_are_listed_unless_another_number_is_given(run_cli: RunCli, tmp_path: Path) -> None:
    for number in range(25):
        make_run(tmp_path / f"{number:02}", created=float(number))
    assert len(rows(run_cli)) == 20
    assert len(rows(run_cli, "--limit", "25")) == 25
    assert names(run_cli, "--limit", "1") == ["24"]


@pytest.mark.parametrize("limit", ["0", "-1", "all"])
def test_a_limit_that_makes_no_sense_is_refused(run_cli: RunCli, limit: str) -> None:
    assert run_cli("history", "--limit", limit).code == 2


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "[]",
        "null",
        '{"created": "yesterday"}',
        '{"created": null}',
        '{"total_steps": "many"}',
        '{"name": 3}',
        '{"status": ["complete"]}',
    ],
)
def test_a_record_that_is_no_runs_does_not_hide_the_others(run_cli: RunCli, tmp_path: Path, record: str) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "run.json").write_text(record)
    make_run(tmp_path / "run")
    assert names(run_cli) == ["run"]


@pytest.mark.parametrize(
    "damage",
    [b'{"kind": "step", "st', b"3\n", b"null\n", b'{"kind": "step"}\n', b'{"kind": "start"}\n', b"\xff\xfe\x00\n"],
)
def test_damaged_lines_of_progress_are_passed_over(run_cli: RunCli, tmp_path: Path, damage: bytes) -> None:
    make_run(tmp_path / "run", step(5, 0.5), step(6, 0.4))
    with (tmp_path / "run" / "progress.jsonl").open("ab") as file:
        file.write(damage)
    assert rows(run_cli)[0][3:5] == ["6/20", "0.4000"]


def test_a_real_run_is_listed_with_its_end(run_cli: RunCli, run_folder: Path) -> None:
    (found,) = json.loads(run_cli("history", run_folder, "--json").out)
    assert (found["status"], found["step"], found["total_steps"]) == ("max-steps", 1, 1)
    assert found["adapter"] == str(run_folder / "final")
    assert found["loss"] == found["best_loss"] > 0


def test_without_runs_json_is_an_empty_list(run_cli: RunCli) -> None:
    assert json.loads(run_cli("history", "--json").out) == []


def test_a_folder_that_is_not_there_is_an_error(run_cli: RunCli) -> None:
    result = run_cli("history", "nowhere")
    assert result.code == 2
    assert "Directory 'nowhere' does not exist" in result.err


def test_a_folder_of_the_settings_that_is_gone_is_passed_over(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("settings", "set", "adapters_dir", "gone")
    make_run(tmp_path / "run")
    assert names(run_cli) == ["run"]
