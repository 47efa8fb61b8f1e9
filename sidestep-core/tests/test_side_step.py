"""Runs that Side-Step wrote, read as our own are."""

import json

import pytest
from sidestep_core.runs import find_adapters, find_runs, read_run

LINES = [
    {
        "ts": 1000.0,
        "kind": "step",
        "step": 10,
        "epoch": 1,
        "max_epochs": 3,
        "loss": 0.9,
        "lr": 3e-4,
        "steps_per_epoch": 20,
    },
    {"ts": 1020.0, "kind": "epoch", "step": 20, "epoch": 1, "max_epochs": 3, "loss": 0.8, "epoch_time": 20.5},
    {
        "ts": 1030.0,
        "kind": "step",
        "step": 30,
        "epoch": 2,
        "max_epochs": 3,
        "loss": None,
        "lr": 2e-4,
        "steps_per_epoch": 20,
    },
    {"ts": 1040.0, "kind": "epoch", "step": 40, "epoch": 2, "max_epochs": 3, "loss": 0.7, "epoch_time": 19.5},
]
COMPLETE = {"ts": 1060.0, "kind": "complete", "step": 60, "loss": 0.7, "best_loss": 0.7, "best_epoch": 2}
FAILED = {"ts": 1060.0, "kind": "fail", "step": 41, "msg": "CUDA out of memory"}


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a Side-Step run that goes on."""
    folder = tmp_path / "20260101_120000_base_lora"
    folder.mkdir()
    (folder / "training_config.json").write_text(
        json.dumps({"learning_rate": 3e-4, "max_epochs": 3, "base_model": "base"})
    )
    (folder / "sidestep_adapter_config.json").write_text(json.dumps({"r": 64, "lora_alpha": 128, "lora_dropout": 0.1}))
    progress(folder, *LINES)
    return folder


def progress(folder, *lines):
    (folder / ".progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def weights(folder, name="adapter_model.safetensors"):
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"weights")
    return folder


def test_a_run_tells_where_it_stands(folder):
    run = read_run(folder)
    assert (run.name, run.created, run.adapter_type, run.variant) == (folder.name, 1000.0, "lora", "base")
    assert (run.step, run.total_steps, run.epoch, run.epochs) == (40, 60, 2, 3)
    assert (run.loss, run.best_loss, run.best_of, run.seconds) == (0.7, 0.7, "epoch", 40.0)


def test_its_settings_are_those_of_its_files(folder):
    assert read_run(folder).settings == {
        "train": {"learning_rate": 3e-4, "max_epochs": 3, "base_model": "base"},
        "adapter": {"r": 64, "lora_alpha": 128, "lora_dropout": 0.1},
    }


def test_a_run_that_wrote_no_end_may_go_on_or_not(folder):
    assert read_run(folder).status == "unfinished"


@pytest.mark.parametrize(("line", "status"), [(COMPLETE, "complete"), (FAILED, "failed")])
def test_the_last_line_says_how_it_ended(folder, line, status):
    progress(folder, *LINES, line)
    run = read_run(folder)
    assert (run.status, run.error) == (status, line.get("msg", ""))


@pytest.mark.parametrize(("saved", "status"), [("final", "complete"), ("early_exit", "stopped")])
def test_a_run_that_left_no_line_of_its_end_is_known_by_what_it_saved(folder, saved, status):
    weights(folder / saved)
    assert (read_run(folder).status, read_run(folder).adapter) == (status, folder / saved)


def test_the_adapter_is_the_final_then_the_best_then_the_early_then_the_newest_checkpoints(folder):
    early, late = weights(folder / "checkpoints" / "epoch_9"), weights(folder / "checkpoints" / "epoch_10")
    exit_, best, final = (weights(folder / name) for name in ("early_exit", "best", "final"))
    assert find_adapters(folder) == [final, best, exit_, late, early]


def test_the_state_of_a_training_is_no_adapter(folder):
    checkpoint = weights(folder / "checkpoints" / "epoch_1", "training_state.safetensors")
    (checkpoint / "training_state.pt").write_bytes(b"pickled")
    assert read_run(folder).adapter is None


@pytest.mark.parametrize(("name", "kind"), [("lokr_weights.safetensors", "lokr"), ("loha_weights.safetensors", "loha")])
def test_the_type_of_an_adapter_is_told_by_its_files(folder, name, kind):
    (folder / "sidestep_adapter_config.json").unlink()
    weights(folder / "checkpoints" / "epoch_1", name)
    assert read_run(folder).adapter_type == kind


@pytest.mark.parametrize(
    ("settings", "kind"), [({"r": 8, "use_dora": True}, "dora"), ({"block_size": 64}, "oft"), ({}, ""), ([], "")]
)
def test_the_type_of_an_adapter_is_told_by_its_settings(folder, settings, kind):
    (folder / "sidestep_adapter_config.json").write_text(json.dumps(settings))
    assert read_run(folder).adapter_type == kind


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"max_epochs": "many", "base_model": 3}'])
def test_damaged_settings_leave_the_run_readable(folder, content):
    (folder / "training_config.json").write_text(content)
    assert (read_run(folder).step, read_run(folder).variant) == (40, "")


def test_a_run_without_progress_is_one_all_the_same(folder):
    (folder / ".progress.jsonl").unlink()
    run = read_run(folder)
    assert (run.step, run.epochs, run.loss, run.seconds) == (0, 3, None, None)
    assert run.created > 1.7e9


@pytest.mark.parametrize("first", ["{", "3", '{"kind": "step"}'])
def test_a_first_line_without_a_time_gives_the_files_own(folder, first):
    (folder / ".progress.jsonl").write_text(first + "\n")
    assert read_run(folder).created > 1.7e9


def test_runs_are_found_and_their_checkpoints_are_no_runs(folder, tmp_path):
    checkpoint = weights(folder / "checkpoints" / "epoch_1")
    (checkpoint / "training_config.json").write_text("{}")
    assert [run.path for run in find_runs([tmp_path])] == [folder]
    assert [run.path for run in find_runs([folder])] == [folder]


def test_what_it_wrote_of_a_resume_is_read_without_what_that_overtook(folder):
    progress(folder, *LINES, {**LINES[1], "loss": 0.75}, {**LINES[3], "loss": 0.65})
    assert read_run(folder).best_loss == 0.65
