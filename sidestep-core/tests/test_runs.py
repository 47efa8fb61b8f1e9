"""Run folders: progress, records, checkpoints, listings."""

import json
import os
import shutil

import pytest
from sidestep_core import files, runs
from sidestep_core.errors import SidestepError
from sidestep_core.locks import take_lock
from sidestep_core.runs import (
    checkpoints,
    find_adapters,
    find_runs,
    read_progress,
    read_record,
    read_run,
    set_status,
    write_record,
)


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_run(folder, **changes):
    record = {"name": folder.name, "status": "unfinished", "created": 5.0, "adapter_type": "lora", "variant": "base"}
    write_record(folder, {**record, "total_steps": 20, "epochs": 2, **changes})
    return folder


def step(number, loss=1.0, **more):
    return {"kind": "step", "step": number, "epoch": 1, "loss": loss, **more}


def epoch(number, at, loss):
    return {"kind": "epoch", "step": at, "epoch": number, "loss": loss}


def test_no_progress_file_is_no_progress(tmp_path):
    assert read_progress(tmp_path / "progress.jsonl") == []


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "progress.jsonl"
    path.write_text(json.dumps(step(1)) + '\n{"kind": "st')
    assert [line["step"] for line in read_progress(path)] == [1]


def test_steps_that_a_resume_overtook_are_left_out(tmp_path):
    path = tmp_path / "progress.jsonl"
    write_lines(path, step(1), step(2, 9.0), step(3, 9.0), {"kind": "start", "step": 1}, step(2, 0.5))
    assert [line.get("loss") for line in read_progress(path)] == [1.0, None, 0.5]


def test_a_folder_without_a_record_is_no_run(tmp_path):
    assert read_run(tmp_path) is None


def test_a_run_tells_where_it_stands(tmp_path):
    folder = make_run(tmp_path / "one")
    write_lines(folder / "progress.jsonl", step(9, 0.7), epoch(1, 10, 0.8), step(15, 0.6))
    run = read_run(folder)
    assert (run.name, run.step, run.total_steps, run.loss, run.best_loss) == ("one", 15, 20, 0.6, 0.8)


def test_the_best_loss_is_that_of_the_best_epoch(tmp_path):
    folder = make_run(tmp_path / "one")
    write_lines(folder / "progress.jsonl", step(1, 0.1), epoch(1, 10, 0.8), epoch(2, 20, 0.7), epoch(3, 30, None))
    assert read_run(folder).best_loss == 0.7


def test_before_the_first_epoch_the_best_loss_is_that_of_a_step(tmp_path):
    folder = make_run(tmp_path / "one")
    write_lines(folder / "progress.jsonl", step(1, 0.9), step(2, 0.7))
    assert read_run(folder).best_loss == 0.7


def test_a_run_that_never_reported_has_no_loss(tmp_path):
    run = read_run(make_run(tmp_path / "one"))
    assert (run.loss, run.best_loss, run.step, run.adapter) == (None, None, 0, None)


def adapter_in(folder):
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def checkpoint_in(folder, step):
    checkpoint = folder / "checkpoints" / f"step_{step}"
    adapter_in(checkpoint / "adapter")
    (checkpoint / "adapter.safetensors").write_bytes(b"weights")
    (checkpoint / "state.json").write_text("{}")
    return checkpoint


def test_a_finished_run_has_its_adapter(tmp_path):
    folder = make_run(tmp_path / "one")
    assert read_run(folder).adapter is None
    final = adapter_in(folder / "final")
    assert read_run(folder).adapter == final


def test_the_adapter_to_use_is_the_last_then_the_best_then_that_of_the_newest_checkpoint(tmp_path):
    folder = make_run(tmp_path / "one")
    overtaken = adapter_in(folder / "overtaken" / "best_step_90")
    milestone = adapter_in(folder / "milestones" / "loss_0.5")
    early, late = checkpoint_in(folder, 9), checkpoint_in(folder, 10)
    best, final = adapter_in(folder / "best"), adapter_in(folder / "final")
    expected = [final, best, late / "adapter", early / "adapter", milestone, overtaken]
    assert find_adapters(folder) == expected
    for gone in expected[:3]:
        shutil.rmtree(gone)
    assert read_run(folder).adapter == early / "adapter"


def test_a_folder_without_weights_is_no_adapter(tmp_path):
    folder = make_run(tmp_path / "one")
    (folder / "final").mkdir()
    (folder / "final" / "adapter_config.json").write_text("{}")
    (folder / "final" / "adapter_model.safetensors").touch()
    assert read_run(folder).adapter is None


def test_an_adapter_whose_replacement_was_interrupted_is_found(tmp_path):
    folder = make_run(tmp_path / "one")
    final = adapter_in(folder / "final")
    final.rename(files._aside(final))  # as between the two renames of a replacement
    assert read_run(folder).adapter == files.locate_folder(final) != final


def test_a_run_whose_process_holds_its_folder_is_running(tmp_path):
    folder = make_run(tmp_path / "one")
    lock = take_lock(folder)
    assert read_run(folder).status == "running"
    lock.release()
    assert read_run(folder).status == "lost"


def test_how_a_run_ended_stands_whoever_looks_at_its_folder(tmp_path):
    folder = make_run(tmp_path / "one", status="complete")
    lock = take_lock(folder)
    assert read_run(folder).status == "complete"
    lock.release()


def test_where_there_are_no_locks_a_run_is_unfinished(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "is_locked", lambda folder: None)
    assert read_run(make_run(tmp_path / "one")).status == "unfinished"


def test_the_best_loss_is_that_of_held_out_songs_where_there_are_any(tmp_path):
    folder = make_run(tmp_path / "one")
    validation = {"kind": "validation", "step": 10, "epoch": 1}
    write_lines(folder / "progress.jsonl", epoch(1, 10, 0.1), {**validation, "loss": 0.9}, {**validation, "loss": 0.8})
    run = read_run(folder)
    assert (run.best_loss, run.best_of) == (0.8, "validation")


def test_a_run_tells_how_long_it_took_and_what_was_set(tmp_path):
    settings = {"train": {"epochs": 2}, "adapter": {"type": "lora", "rank": 8}}
    folder = make_run(tmp_path / "one", request=settings, model="acestep-v15-base")
    write_lines(
        folder / "progress.jsonl", step(1, ts=10.0), {"kind": "start", "step": 1, "ts": 99.0}, step(2, ts=104.0)
    )
    run = read_run(folder)
    assert (run.seconds, run.settings, run.model) == (5.0, settings, "acestep-v15-base")


def test_only_the_progress_of_runs_that_are_returned_is_read(tmp_path, monkeypatch):
    for number in range(5):
        make_run(tmp_path / f"{number}", created=float(number))
    read = []
    monkeypatch.setattr(runs, "read_progress", lambda path: read.append(path.parent.name) or [])
    assert [run.name for run in find_runs([tmp_path], limit=2)] == ["4", "3"]
    assert read == ["4", "3"]


def test_folders_that_are_named_are_not_searched_below(tmp_path):
    outer = make_run(tmp_path / "outer")
    make_run(outer / "inner")
    assert [run.name for run in find_runs([], more=[outer])] == ["outer"]


def test_a_folder_that_may_not_be_read_hides_no_others(tmp_path, monkeypatch):
    make_run(tmp_path / "a" / "good")
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scan(folder):
        if folder.name == "closed":
            raise PermissionError(folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert [run.name for run in find_runs([tmp_path])] == ["good"]


def test_the_status_can_be_changed_alone(tmp_path):
    folder = make_run(tmp_path / "one")
    set_status(folder, "failed", "no memory")
    run = read_run(folder)
    assert (run.status, run.error, run.variant) == ("failed", "no memory", "base")


def test_runs_are_found_below_roots_newest_first(tmp_path):
    make_run(tmp_path / "old", created=1.0)
    make_run(tmp_path / "group" / "new", created=2.0)
    assert [run.name for run in find_runs([tmp_path])] == ["new", "old"]


def test_a_root_may_be_a_run(tmp_path):
    folder = make_run(tmp_path / "one")
    assert [run.path for run in find_runs([folder])] == [folder]


def test_a_run_below_two_roots_is_listed_once(tmp_path):
    folder = make_run(tmp_path / "one")
    assert len(find_runs([tmp_path, folder])) == 1


def test_runs_are_not_looked_for_at_any_depth(tmp_path):
    make_run(tmp_path / "a" / "b" / "c")
    assert find_runs([tmp_path], depth=2) == []


def test_a_damaged_run_hides_no_others(tmp_path):
    make_run(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    assert [run.name for run in find_runs([tmp_path])] == ["good"]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(SidestepError, match=r"run\.json' is damaged"):
        read_record(tmp_path)


def test_checkpoints_are_listed_by_step(tmp_path):
    for name in ("step_100", "step_20"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "state.json").write_text("{}")
    assert [number for number, _ in checkpoints(tmp_path)] == [20, 100]


def test_a_checkpoint_without_its_state_does_not_count(tmp_path):
    (tmp_path / "checkpoints" / "step_3").mkdir(parents=True)
    assert checkpoints(tmp_path) == []


def test_other_folders_are_no_checkpoints(tmp_path):
    (tmp_path / "checkpoints" / "step_3.old").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_3.old" / "state.json").write_text("{}")
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("created", "yesterday"), ("created", None), ("total_steps", 2.5), ("epochs", "3"), ("name", 3), ("status", [])],
)
def test_a_record_with_something_else_in_a_field_is_not_that_of_a_run(tmp_path, field, value):
    write_record(tmp_path, {"name": "mine", field: value})
    with pytest.raises(SidestepError, match=rf"is not that of a run \({field} is "):
        read_run(tmp_path)
    assert find_runs([tmp_path]) == []


@pytest.mark.parametrize("line", [b"3", b"null", b"[]", b'{"kind": "step"}', b'{"kind": "start"}', b"\xff\xfe"])
def test_a_line_of_progress_that_makes_no_sense_is_left_out(tmp_path, line):
    good = b'{"kind": "step", "step": 1, "epoch": 1, "loss": 0.5}'
    (tmp_path / "progress.jsonl").write_bytes(good + b"\n" + line + b"\n")
    assert read_progress(tmp_path / "progress.jsonl") == [json.loads(good)]


def test_a_step_without_a_loss_is_a_step_all_the_same(tmp_path):
    write_record(tmp_path, {"name": "mine"})
    (tmp_path / "progress.jsonl").write_text('{"kind": "step", "step": 4, "epoch": 1}\n')
    run = read_run(tmp_path)
    assert (run.step, run.loss, run.best_loss) == (4, None, None)
