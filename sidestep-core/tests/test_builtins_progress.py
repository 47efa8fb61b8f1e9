"""progress.jsonl: one line for each event that belongs there."""

import json
from pathlib import Path

import pytest
from sidestep_core.builtins.progress import ProgressFile
from sidestep_core.errors import LoadError
from sidestep_core.events import (
    BestSaved,
    CheckpointSaved,
    EpochDone,
    MilestoneSaved,
    Notice,
    PreviewMade,
    RunFinished,
    RunStarted,
    StepsDone,
    StepSkipped,
    Validated,
)
from sidestep_core.progress import read_progress
from sidestep_core.specs import BuildContext

STARTED = RunStarted(run=Path(), step=0, total_steps=20, epochs=2, steps_per_epoch=10, songs=5, trainable=99)


def steps_done(loss=0.5, smoothed=0.6, bands=(), samples=(), **extra):
    return StepsDone(
        bands=bands,
        samples=samples,
        step=7,
        total_steps=20,
        epoch=1,
        epochs=2,
        loss=loss,
        smoothed=smoothed,
        learning_rate=1e-4,
        grad_norm=0.1,
        steps_per_second=2.0,
        memory=1024,
        extra=extra,
    )


def finished(reason, adapter=None):
    return RunFinished(step=20, reason=reason, loss=0.4, adapter=adapter, seconds=3.0)


@pytest.fixture
def written(tmp_path):
    """Show events to a progress file and return its lines."""

    def write(*events):
        observer = ProgressFile(None, BuildContext(run=tmp_path))
        for event in events:
            observer.observe(event)
        observer.close()
        return [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]

    return write


def test_a_step_has_what_side_step_readers_expect(written):
    line = written(STARTED, steps_done())[-1]
    wanted = {"kind": "step", "step": 7, "epoch": 1, "max_epochs": 2, "loss": 0.5, "lr": 1e-4, "steps_per_epoch": 10}
    assert wanted.items() <= line.items()


def test_a_step_has_what_controllers_report(written):
    line = written(steps_done(target_loss_scale=0.25, target_loss_ema=0.6))[0]
    assert (line["target_loss_scale"], line["target_loss_ema"]) == (0.25, 0.6)


def test_what_controllers_report_replaces_nothing(written):
    assert written(steps_done(lr=9.0))[0]["lr"] == 1e-4


def test_every_line_says_when(written):
    assert all(line["ts"] > 1.7e9 for line in written(STARTED, steps_done()))


def test_numbers_that_are_not_finite_are_null(written):
    line = written(steps_done(loss=float("nan"), smoothed=float("inf")))[0]
    assert (line["loss"], line["smoothed"]) == (None, None)


def test_an_epoch_has_its_mean_loss_and_time(written):
    line = written(EpochDone(epoch=1, epochs=2, step=10, loss=0.5, seconds=4.0))[0]
    assert (line["kind"], line["epoch"], line["loss"], line["epoch_time"]) == ("epoch", 1, 0.5, 4.0)


def test_a_step_has_losses_by_timestep_where_they_are_known(written):
    line = written(steps_done(bands=(0.123456789, float("nan")), samples=(3, 0)))[0]
    assert (line["bands"], line["samples"]) == ([0.123457, None], [3, 0])
    assert not {"bands", "samples"} & written(steps_done())[-1].keys()


def test_a_validation_has_its_loss_in_all_and_by_timestep(written):
    line = written(Validated(step=10, epoch=2, loss=0.5, bands=(0.25, float("nan")), seconds=1.5))[0]
    known = {"kind": "validation", "step": 10, "epoch": 2, "loss": 0.5, "bands": [0.25, None], "seconds": 1.5}
    assert known.items() <= line.items()


def test_the_best_adapter_says_what_it_was_judged_by(written):
    line = written(BestSaved(step=10, epoch=2, loss=0.5, tracked="validation", path=Path("best")))[0]
    known = {"kind": "best", "step": 10, "epoch": 2, "loss": 0.5, "tracked": "validation", "path": "best"}
    assert known.items() <= line.items()


def test_a_milestone_names_its_loss_and_its_folder(written):
    line = written(MilestoneSaved(step=10, epoch=2, milestone=0.5, loss=0.49, path=Path("kept")))[0]
    known = {"kind": "milestone", "step": 10, "epoch": 2, "milestone": 0.5, "loss": 0.49, "path": "kept"}
    assert known.items() <= line.items()


def test_a_preview_names_its_files(written):
    line = written(PreviewMade(step=10, epoch=2, paths=(Path("a.flac"), Path("b.flac")), seconds=2.5))[0]
    assert {
        "kind": "preview",
        "step": 10,
        "epoch": 2,
        "paths": ["a.flac", "b.flac"],
        "seconds": 2.5,
    }.items() <= line.items()


def test_every_kind_of_line_and_every_key_is_documented(written):
    page = (Path(__file__).parents[2] / "docs/guide/progress.md").read_text("utf-8")
    lines = written(
        STARTED,
        steps_done(bands=(0.5,), samples=(3,)),
        EpochDone(epoch=1, epochs=2, step=10, loss=0.5, seconds=4.0),
        StepSkipped(step=3, songs=("a.wav",)),
        CheckpointSaved(step=3, epoch=1, path=Path("c")),
        Validated(step=10, epoch=2, loss=0.5, bands=(0.25,), seconds=1.5),
        BestSaved(step=10, epoch=2, loss=0.5, tracked="validation", path=Path("best")),
        MilestoneSaved(step=10, epoch=2, milestone=0.5, loss=0.49, path=Path("kept")),
        PreviewMade(step=10, epoch=2, paths=(), seconds=2.5),
        finished("complete"),
        finished("stopped"),
        finished("failed"),
    )
    assert len({line["kind"] for line in lines}) == 12
    for line in lines:
        (row,) = [row for row in page.splitlines() if row.startswith(f"| `{line['kind']}` |")]
        assert [key for key in line.keys() - {"ts", "kind"} if f"`{key}`" not in row] == []


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next(written, tmp_path):
    (tmp_path / "progress.jsonl").write_text('{"kind": "step", "st')
    observer = ProgressFile(None, BuildContext(run=tmp_path))
    observer.observe(STARTED)
    observer.close()
    assert [line["kind"] for line in read_progress(tmp_path / "progress.jsonl")] == ["start"]


def test_a_skipped_step_names_its_songs(written):
    assert written(StepSkipped(step=3, songs=("a.wav",)))[0]["songs"] == ["a.wav"]


def test_a_checkpoint_names_its_folder(written):
    assert written(CheckpointSaved(step=3, epoch=1, path=Path("c")))[0]["path"] == "c"


@pytest.mark.parametrize(
    ("reason", "kind"), [("complete", "complete"), ("max-steps", "complete"), ("stopped", "stopped")]
)
def test_the_last_line_says_how_the_run_ended(written, reason, kind):
    line = written(finished(reason, Path("final")))[0]
    assert (line["kind"], line["reason"], line["loss"], line["adapter"]) == (kind, reason, 0.4, "final")


def test_a_failure_says_why(written):
    line = written(Notice(message="gradients are not finite", warning=True), finished("failed"))[0]
    assert (line["kind"], line["msg"]) == ("fail", "gradients are not finite")


def test_notices_are_no_lines(written):
    assert [line["kind"] for line in written(Notice(message="hello"), STARTED)] == ["start"]


def test_a_resumed_run_appends(written):
    written(STARTED)
    assert len(written(STARTED)) == 2


def test_lines_can_be_read_while_the_run_goes_on(tmp_path):
    observer = ProgressFile(None, BuildContext(run=tmp_path))
    observer.observe(steps_done())
    assert (tmp_path / "progress.jsonl").read_text().endswith("}\n")


def test_nothing_is_written_before_the_run_starts(tmp_path):
    ProgressFile(None, BuildContext(run=tmp_path)).close()
    assert list(tmp_path.iterdir()) == []


def test_it_needs_a_run_folder():
    with pytest.raises(LoadError, match="needs the folder of a run"):
        ProgressFile(None, BuildContext())
