"""`sidestep history` on real run folders, whole, unfinished and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.history import enter
from sidestep_core.locks import take_lock

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


def adapter_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"w" * 1000)
    return folder


def rows(run_cli: RunCli, *args: str | Path) -> list[list[str]]:
    result = run_cli("history", *args)
    assert result.code == 0, result.err
    return [line.split()[2:] for line in result.out.splitlines()[1:]]


def names(run_cli: RunCli, *args: str | Path) -> list[str]:
    return [run["name"] for run in json.loads(run_cli("history", *args, "--json").out)]


def test_a_run_that_goes_on_is_running(run_cli: RunCli, tmp_path: Path) -> None:
    lock = take_lock(make_run(tmp_path / "run", step(5, 0.5)))
    assert rows(run_cli) == [["running", "lora", "base", "5/20", "0.5000", "run"]]
    assert lock is not None
    lock.release()


def test_a_run_whose_process_ended_without_a_word_is_lost(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, 0.5))
    assert rows(run_cli) == [["lost", "lora", "base", "5/20", "0.5000", "run"]]


def test_before_its_first_report_a_run_has_no_loss(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert rows(run_cli) == [["lost", "lora", "base", "0/20", "-", "run"]]


@pytest.mark.parametrize("status", ["complete", "max-steps", "early-stop", "stopped", "failed"])
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
    settings = {"train": {"epochs": 2}}
    make_run(tmp_path / "run", step(5, 0.5), status="complete", error="", model="mine", request=settings)
    adapter_in(tmp_path / "run" / "final")
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
        "best_of": "step",
        "seconds": None,
        "adapter": str(Path("run/final")),
        "error": "",
        "model": "mine",
        "settings": settings,
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


def known(folder: Path, **record: Any) -> Path:
    """Make a run as `train` would: it is on the list, wherever it is."""
    make_run(folder, step(5, 0.5), **{"status": "complete", **record})
    written = json.loads((folder / "run.json").read_text())
    assert list(enter(folder, written)) == []
    return folder


@pytest.fixture
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that nobody looks into by himself."""
    return tmp_path_factory.mktemp("away") / "deep" / "inside" / "of" / "it"


def test_a_run_is_listed_wherever_it_was_written(run_cli: RunCli, away: Path) -> None:
    known(away / "run")
    assert rows(run_cli)[0][-1] == str(away / "run")


def test_with_folders_only_those_are_looked_into(run_cli: RunCli, away: Path, tmp_path: Path) -> None:
    known(away / "one")
    make_run(tmp_path / "here" / "two")
    assert names(run_cli, "here") == ["two"]
    assert sorted(names(run_cli)) == ["one", "two"]


def test_a_run_whose_folder_is_gone_is_missing(run_cli: RunCli, away: Path) -> None:
    known(away / "run").rename(away / "moved")
    assert rows(run_cli) == [["missing", "lora", "base", "0/0", "-", str(away / "run")]]


def test_the_list_can_be_asked_for_by_name(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert run_cli("history", "list").out == run_cli("history").out


def test_a_folder_named_like_a_command_can_be_listed(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "show" / "run")
    assert names(run_cli, "list", "show") == ["run"]
    assert names(run_cli, "./show") == ["run"]


def test_a_run_is_shown_with_its_results_its_weights_and_its_settings(run_cli: RunCli, tmp_path: Path) -> None:
    settings = {"train": {"epochs": 2, "target": None}, "lr-control": [{"type": "cosine", "floor": 0.01}]}
    lines = ({"ts": 10.0, "kind": "start", "step": 0}, {**step(5, 0.5), "ts": 100.0})
    make_run(tmp_path / "run", *lines, status="failed", error="no memory", model="mine", request=settings)
    adapter_in(tmp_path / "run" / "best")
    adapter_in(tmp_path / "run" / "milestones" / "loss_0.5")
    result = run_cli("history", "show", "run")
    assert result.code == 0
    facts = dict(line.split("  ", 1) for line in result.out.splitlines() if line)
    assert {name: value.strip() for name, value in facts.items()} == {
        "run": "run",
        "folder": "run",
        "status": "failed: no memory",
        "started": facts["started"].strip(),
        "took": "1:30 min",
        "adapter": "lora",
        "model": "base (mine)",
        "steps": "5 of 20, epoch 1 of 2",
        "loss": "0.5000",
        "best loss": "0.5000 (a report)",
        "weights": str(Path("run/best")),
        "also in": str(Path("milestones/loss_0.5")),
        "train": "epochs 2",
        "lr-control": "type cosine, floor 0.01",
    }


def test_a_lost_run_is_shown_with_what_to_do(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", step(5, 0.5))
    assert "--resume-from latest' goes on" in run_cli("history", "show", "run").out


def test_a_run_is_shown_by_its_name_from_anywhere(run_cli: RunCli, away: Path) -> None:
    known(away / "run", name="warm_jazz")
    assert json.loads(run_cli("history", "show", "warm", "--json").out)["path"] == str(away / "run")


def test_a_missing_run_is_shown_as_far_as_it_is_known(run_cli: RunCli, away: Path) -> None:
    known(away / "run").rename(away / "moved")
    assert "missing" in run_cli("history", "show", "run").out


def test_a_name_that_is_no_runs_is_an_error_of_one_line(run_cli: RunCli) -> None:
    result = run_cli("history", "show", "rock")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: no run 'rock'; give its folder, or a name that 'sidestep history' lists\n"


def test_runs_are_compared_by_results_and_by_settings_that_differ(run_cli: RunCli, tmp_path: Path) -> None:
    for name, rank in (("one", 8), ("two", 16)):
        settings = {"train": {"epochs": 2}, "adapter": {"type": "lora", "rank": rank}}
        make_run(tmp_path / name, step(5, 1 / rank), status="complete", request=settings)
    out = run_cli("history", "compare", "one", "two").out.splitlines()
    assert [line.split() for line in out] == [
        ["RESULT", "ONE", "TWO"],
        ["status", "complete", "complete"],
        ["steps", "5/20", "5/20"],
        ["took", "-", "-"],
        ["loss", "0.1250", "0.0625"],
        ["best", "loss", "0.1250", "(a", "report)", "0.0625", "(a", "report)"],
        [],
        ["SETTING", "ONE", "TWO"],
        ["adapter.rank", "8", "16"],
    ]


def test_equal_settings_are_said_to_be_equal(run_cli: RunCli, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / name)
    assert run_cli("history", "compare", "one", "two").out.endswith("all settings are the same\n")


def test_runs_of_one_name_are_told_apart_by_their_folders(run_cli: RunCli, tmp_path: Path) -> None:
    for place in "ab":
        make_run(tmp_path / place / "run")
    assert run_cli("history", "compare", "a/run", "b/run").out.split()[1:3] == ["A/RUN", "B/RUN"]


def test_a_comparison_is_json_on_request(run_cli: RunCli, tmp_path: Path) -> None:
    for name, epochs in (("one", 2), ("two", 3)):
        make_run(tmp_path / name, request={"train": {"epochs": epochs}})
    found = json.loads(run_cli("history", "compare", "one", "two", "--json").out)
    assert [run["name"] for run in found["runs"]] == ["one", "two"]
    assert found["differences"] == {"train.epochs": [2, 3]}


def test_a_comparison_can_be_drawn(run_cli: RunCli, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / name, step(5, 0.5), step(6, 0.4))
    result = run_cli("history", "compare", "one", "two", "--plot", "losses.png")
    assert result.err == "drawn in losses.png\n"
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Return a finished run with checkpoints, in the working folder."""
    folder = known(tmp_path / "run")
    adapter_in(folder / "final")
    for number in (10, 20):
        adapter_in(folder / "checkpoints" / f"step_{number}")
        (folder / "checkpoints" / f"step_{number}" / "state.json").write_text("{}")
    return folder


def test_deleting_asks_and_takes_the_checkpoints_only(run_cli: RunCli, finished: Path) -> None:
    result = run_cli("history", "delete", "run", typed="y\n")
    assert result.code == 0
    assert result.err.splitlines() == [
        "to delete in run (2.0 kB): checkpoints/step_10, checkpoints/step_20",
        "kept: final",
        "delete? [y/N]: freed 2.0 kB",
    ]
    assert (finished / "final" / "adapter_model.safetensors").is_file()
    assert not (finished / "checkpoints").exists()


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_deleted(run_cli: RunCli, finished: Path, typed: str) -> None:
    assert run_cli("history", "delete", "run", typed=typed).code != 0
    assert (finished / "checkpoints" / "step_20").is_dir()


def test_yes_can_be_said_beforehand(run_cli: RunCli, finished: Path) -> None:
    assert run_cli("--yes", "history", "delete", "run").code == 0
    assert not (finished / "checkpoints").exists()


def test_a_run_without_checkpoints_has_nothing_to_delete(run_cli: RunCli, tmp_path: Path) -> None:
    adapter_in(known(tmp_path / "run") / "final")
    result = run_cli("history", "delete", "run")
    assert (result.code, result.err) == (0, "nothing to delete in run: it has no checkpoints\n")


def test_the_only_weights_are_not_deleted(run_cli: RunCli, finished: Path) -> None:
    (finished / "final" / "adapter_model.safetensors").unlink()
    result = run_cli("--yes", "history", "delete", "run")
    assert result.code == 2
    assert "the only weights of run" in result.err
    assert (finished / "checkpoints" / "step_20" / "adapter_model.safetensors").is_file()


def test_with_weights_the_lost_ones_are_named_and_the_run_is_off_the_list(run_cli: RunCli, finished: Path) -> None:
    result = run_cli("--yes", "history", "delete", "run", "--with-weights")
    assert result.code == 0
    assert "adapters that are lost for good: final" in result.err
    assert not finished.exists()
    assert names(run_cli) == []


def test_a_folder_with_other_files_is_said_to_stay(run_cli: RunCli, finished: Path) -> None:
    (finished / "notes.txt").write_text("mine")
    result = run_cli("--yes", "history", "delete", "run", "--with-weights")
    assert result.err.endswith("run stays: there are other files in it\n")
    assert [path.name for path in finished.iterdir()] == ["notes.txt"]


def test_a_forgotten_run_is_off_the_list_and_its_folder_stays(run_cli: RunCli, away: Path) -> None:
    folder = known(away / "run")
    assert run_cli("history", "forget", "run").err == f"{folder} is forgotten\n"
    assert names(run_cli) == []
    assert (folder / "run.json").is_file()


def test_a_run_that_is_not_on_the_list_cannot_be_forgotten(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert run_cli("history", "forget", "run").err == "run was not on the list\n"


def test_missing_runs_can_be_taken_off_the_list(run_cli: RunCli, away: Path) -> None:
    known(away / "here")
    known(away / "gone").rename(away / "moved")
    asked = run_cli("history", "prune", typed="n\n")
    assert asked.code != 0
    assert sorted(names(run_cli)) == ["gone", "here"]
    assert run_cli("history", "prune", typed="y\n").err.endswith("1 run forgotten\n")
    assert names(run_cli) == ["here"]
    assert run_cli("history", "prune").err == "the folder of every run is there\n"


def test_a_side_step_run_is_listed_and_shown(run_cli: RunCli, tmp_path: Path) -> None:
    folder = tmp_path / "output" / "20260101_base_lora"
    folder.mkdir(parents=True)
    (folder / "training_config.json").write_text('{"base_model": "base", "max_epochs": 2}')
    (folder / "sidestep_adapter_config.json").write_text('{"r": 64}')
    line = {**step(5, 0.5), "max_epochs": 2, "steps_per_epoch": 10}
    (folder / ".progress.jsonl").write_text(json.dumps(line) + "\n")
    adapter_in(folder / "best")
    assert rows(run_cli) == [["unfinished", "lora", "base", "5/20", "0.5000", str(Path("output", folder.name))]]
    assert "adapter  r 64" in (run_cli("history", "show", "2026").out.splitlines())


def test_a_real_run_is_known_to_the_history(run_cli: RunCli, run_folder: Path) -> None:
    result = run_cli("history", "show", run_folder, "--json")
    found = json.loads(result.out)
    assert found["settings"]["train"]["max_steps"] == 1
    assert (found["status"], found["best_of"], found["variant"]) == ("max-steps", "epoch", "base")
    assert found["seconds"] > 0
