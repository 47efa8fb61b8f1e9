"""Deleting runs: what goes, what stays, and that weights never go unnamed."""

import itertools
import json
import shutil

import pytest
from sidestep_core.errors import SidestepError
from sidestep_core.history import enter, entries
from sidestep_core.locks import take_lock
from sidestep_core.run_removal import plan_removal, remove
from sidestep_core.runs import read_run, write_record

PLACES = ("final", "best", "milestones/loss_0.5", "overtaken/best_step_90", "checkpoints/step_90")
ENDED = ("complete", "max-steps", "early-stop", "stopped")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Give each test a history of its own."""
    monkeypatch.setenv("SIDESTEP_DATA_DIR", str(tmp_path / "data"))


def weights(folder):
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"w" * 1000)
    return folder


def make_run(folder, *places, status="complete"):
    record = {"name": folder.name, "status": status, "created": 5.0, "adapter_type": "lora", "variant": "base"}
    write_record(folder, record)
    assert list(enter(folder, record)) == []
    (folder / "progress.jsonl").write_text(json.dumps({"kind": "step", "step": 1, "loss": 0.5}) + "\n")
    for place in places:
        weights(folder / place)
        if place.startswith("checkpoints"):
            weights(folder / place / "adapter")
            (folder / place / "state.json").write_text("{}")
    return folder


def names(removal):
    return [path.relative_to(removal.run).as_posix() for path in removal.paths]


def all_files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


def test_a_finished_run_loses_its_checkpoints_and_nothing_else(tmp_path):
    folder = make_run(tmp_path / "run", *PLACES, "checkpoints/step_100")
    before = all_files(folder)
    removal = plan_removal(read_run(folder))
    assert names(removal) == ["checkpoints/step_100", "checkpoints/step_90"]
    assert (removal.whole, removal.lost) == (False, ())
    assert removal.kept == (folder / "final", folder / "best")
    assert remove(removal) is False
    assert all_files(folder) == [name for name in before if not name.startswith("checkpoints")]
    assert not (folder / "checkpoints").exists()
    assert read_run(folder).adapter == folder / "final"
    assert [entry.path for entry in entries()] == [folder]


def test_what_is_freed_is_counted(tmp_path):
    assert plan_removal(read_run(make_run(tmp_path / "run", "final", "checkpoints/step_90"))).bytes == 2002


def test_without_checkpoints_there_is_nothing_to_delete(tmp_path):
    assert plan_removal(read_run(make_run(tmp_path / "run", "final"))).paths == ()


@pytest.mark.parametrize("status", ["unfinished", "failed"])
@pytest.mark.parametrize("kept", [(), ("best",), ("final", "best")])
def test_the_newest_weights_of_a_run_that_did_not_end_well_stay(tmp_path, status, kept):
    folder = make_run(tmp_path / "run", *kept, "checkpoints/step_90", status=status)
    before = all_files(folder)
    with pytest.raises(SidestepError, match=r"weights of run .* are in '.*step_90', and nothing was deleted; go on"):
        plan_removal(read_run(folder))
    assert all_files(folder) == before


def test_a_run_whose_only_weights_are_a_checkpoint_is_left_alone(tmp_path):
    folder = make_run(tmp_path / "run", "checkpoints/step_90", status="complete")
    with pytest.raises(SidestepError, match=r"the only weights of run '.*run' \(complete\) are in '.*step_90'"):
        plan_removal(read_run(folder))


def test_a_run_without_weights_goes_as_a_whole(tmp_path):
    folder = make_run(tmp_path / "run", status="failed")
    removal = plan_removal(read_run(folder))
    assert (removal.whole, removal.lost) == (True, ())
    assert remove(removal) is True
    assert not folder.exists()
    assert entries() == []


def test_with_its_weights_a_run_goes_as_a_whole_and_they_are_named(tmp_path):
    folder = make_run(tmp_path / "run", *PLACES)
    removal = plan_removal(read_run(folder), with_weights=True)
    expected = ["final", "best", "checkpoints/step_90/adapter", "milestones/loss_0.5", "overtaken/best_step_90"]
    assert [path.relative_to(folder).as_posix() for path in removal.lost] == expected
    assert remove(removal) is True
    assert not folder.exists()


def test_the_weights_go_last(tmp_path):
    folder = make_run(tmp_path / "run", *PLACES)
    assert names(plan_removal(read_run(folder), with_weights=True))[-4:] == [
        "best",
        "final",
        "progress.jsonl",
        "run.json",
    ]


def test_what_others_put_into_the_folder_stays(tmp_path):
    folder = make_run(tmp_path / "run", *PLACES)
    others = ["notes.txt", "checkpoints/mine/a.bin", "runs/my_run/run.json", "milestones/readme", "previews/mine.flac"]
    for name in others:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    assert remove(plan_removal(read_run(folder), with_weights=True)) is False
    assert all_files(folder) == sorted(others)


def test_what_observers_and_previews_wrote_goes_with_the_run(tmp_path):
    folder = make_run(tmp_path / "run", status="failed")
    for name in (
        "runs/events.out.tfevents.1.host.2.0",
        "previews/step_10/a.flac",
        "previews/without_adapter/a.flac",
        "asked/save",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("made")
    assert remove(plan_removal(read_run(folder))) is True


def test_what_a_link_leads_to_stays(tmp_path):
    elsewhere = weights(tmp_path / "elsewhere")
    folder = make_run(tmp_path / "run")
    (folder / "final").symlink_to(elsewhere)
    assert remove(plan_removal(read_run(folder), with_weights=True)) is True
    assert all_files(elsewhere) == ["adapter_model.safetensors"]


def test_what_an_interrupted_save_left_goes_with_the_checkpoints(tmp_path):
    folder = make_run(tmp_path / "run", "final", "checkpoints/step_90", "checkpoints/.step_91.0123abcd.tmp")
    assert names(plan_removal(read_run(folder))) == ["checkpoints/step_90", "checkpoints/.step_91.0123abcd.tmp"]


def test_weights_of_an_unknown_kind_are_weights(tmp_path):
    folder = make_run(tmp_path / "run", "checkpoints/step_90", status="failed")
    shutil.rmtree(folder / "checkpoints" / "step_90" / "adapter")
    (folder / "checkpoints" / "step_90" / "adapter_model.safetensors").rename(folder / "checkpoints/step_90/odd.xyz")
    with pytest.raises(SidestepError, match="nothing was deleted"):
        plan_removal(read_run(folder))


def test_a_run_that_goes_on_cannot_be_deleted(tmp_path):
    folder = make_run(tmp_path / "run", "final", "checkpoints/step_90", status="unfinished")
    lock = take_lock(folder)
    with pytest.raises(SidestepError, match="is running; stop it first"):
        plan_removal(read_run(folder), with_weights=True)
    lock.release()


def test_a_run_that_was_resumed_after_the_question_stays(tmp_path):
    folder = make_run(tmp_path / "run", "final", "checkpoints/step_90")
    removal = plan_removal(read_run(folder))
    lock = take_lock(folder)
    with pytest.raises(SidestepError, match="goes on again; nothing was deleted"):
        remove(removal)
    lock.release()
    assert (folder / "checkpoints" / "step_90").is_dir()


def test_a_run_of_which_nobody_knows_whether_it_goes_on_stays(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run", status="unfinished")
    monkeypatch.setattr("sidestep_core.runs.is_locked", lambda folder: None)
    with pytest.raises(SidestepError, match="cannot be told"):
        plan_removal(read_run(folder))


def test_runs_of_side_step_are_left_to_their_owners(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".progress.jsonl").write_text('{"kind": "fail", "step": 1}\n')
    with pytest.raises(SidestepError, match="was not written by sidestep"):
        plan_removal(read_run(folder))


def test_a_missing_run_cannot_be_deleted(tmp_path):
    folder = make_run(tmp_path / "run")
    shutil.rmtree(folder)
    (entry,) = entries()
    with pytest.raises(SidestepError, match="is gone; 'sidestep history forget'"):
        plan_removal(entry.as_missing())


@pytest.mark.parametrize("status", [*ENDED, "failed", "unfinished"])
def test_whatever_a_run_has_kept_deleting_leaves_it_weights(tmp_path, status):
    for number, places in enumerate(
        itertools.chain.from_iterable(itertools.combinations(PLACES, count) for count in range(1, 6))
    ):
        folder = make_run(tmp_path / f"{number}", *places, status=status)
        newest = read_run(folder).adapter
        try:
            remove(plan_removal(read_run(folder)))
        except SidestepError:
            assert all_files(folder)
        assert read_run(folder).adapter == newest, places
