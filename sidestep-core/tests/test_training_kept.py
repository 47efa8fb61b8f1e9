"""Kept adapters and resume: what a run keeps is always what it had where it stands, and nothing is lost."""

import json
import os
import shutil

import pytest
from sidestep_core.errors import ConfigError
from sidestep_core.events import BestSaved, MilestoneSaved, Notice, StepsDone, Validated
from sidestep_core.files import hash_text, locate_folder
from sidestep_core.locks import take_lock
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import read_run
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.kept import Best, Kept, put_back, said_by
from sidestep_core.training.loop import train

# everything that has a state, and everything that is kept
SETTINGS = {
    "train": {"epochs": 5, "conditioning_dropout": 0.4, "ema_decay": 0.5, "warmup_steps": 0},
    "data": {"max_latent_length": 40, "val_split": 0.3},
    "keep": {
        "save_best_after": 0,
        "save_best_every_n_steps": 3,
        "early_stop_patience": 4,
        "loss_milestones": (2.52, 2.5, 2.45, 1.0),
    },
}


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    folder = tmp_path_factory.mktemp("store")
    return write_noise(folder, model, frames=[50, 64, 33, 80], rows=[5, 9], latent="resample")


def make_plan(checkpoint, store, folder, resume_from=None, **tables):
    tables = {**SETTINGS, **tables}
    tables["run"] = {"resume_from": resume_from, **tables.get("run", {})}
    components = tables.pop("components", None) or tiny_components(timesteps="adaptive")
    return tiny_plan(checkpoint, store, folder, components=components, **tables)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_checkpoint, store):
    """A run that was never stopped: its folder and its events. Read only."""
    plan = make_plan(tiny_checkpoint, store, tmp_path_factory.mktemp("straight") / "run", run={"save_every_steps": 3})
    events = list(train(plan))
    return plan.run, events


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    return lambda resume_from=None, name="run", **tables: make_plan(
        tiny_checkpoint, store, tmp_path / name, resume_from, **tables
    )


@pytest.fixture
def copied(straight, tmp_path):
    """A copy of that run's folder."""
    return shutil.copytree(straight[0], tmp_path / "run")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_until(plan, steps):
    """Train until some steps of this call are done, then stop."""
    done = []
    for event in train(plan, stop=lambda: len(done) >= steps):
        done.extend([event] if isinstance(event, StepsDone) else [])


def die_at(plan, step):
    """Train up to and including all that a step leads to, and drop everything without a word."""
    dying = train(plan)
    for event in dying:
        if isinstance(event, StepsDone) and event.step > step:
            break
    dying.close()


def told(events, *kinds):
    return [event for event in events if isinstance(event, kinds)]


def notices(events):
    return [event.message for event in told(events, Notice) if event.warning]


def steps(kind, events):
    return [event.step for event in told(events, kind)]


def assert_same_run(run, straight):
    for name in ("best", "milestones", "final", "checkpoints/step_10"):
        assert files(run / name) == files(straight / name)


def test_the_run_to_compare_with_keeps_something_and_changes_its_mind(straight):
    _, events = straight
    assert len(steps(BestSaved, events)) > 2
    assert len(steps(MilestoneSaved, events)) > 1
    assert steps(Validated, events) == [2, 3, 4, 6, 8, 9, 10]


@pytest.mark.parametrize("stop", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4, 5, 6, 7, 8, 9))])
def test_a_run_stopped_at_any_step_keeps_the_same_in_the_end(plan, straight, stop):
    run_until(plan(), stop)
    resumed = plan("latest", run={"save_every_steps": 3})
    events = list(train(resumed))
    assert_same_run(resumed.run, straight[0])
    kinds = (Validated, BestSaved, MilestoneSaved)
    seen = [(type(e), e.step, e.loss) for e in told(events, *kinds)]
    assert seen == [(type(e), e.step, e.loss) for e in told(straight[1], *kinds) if e.step > stop]


def test_a_run_that_died_after_keeping_a_later_best_keeps_the_same_in_the_end(plan, straight):
    dying = plan(run={"save_every_steps": 3})
    die_at(dying, 8)
    lost = json.loads((dying.run / "best" / "kept.json").read_text())
    assert lost["step"] > 6
    resumed = plan("latest", run={"save_every_steps": 3})
    events = list(train(resumed))
    assert notices(events) == [
        f"the adapter that was kept at step {lost['step']} as best is in "
        f"'{resumed.run / 'overtaken' / 'best_step_'}{lost['step']}' now"
    ]
    assert_same_run(resumed.run, straight[0])


def test_going_back_in_time_goes_back_to_the_best_of_that_time(copied, plan):
    later = files(copied / "best")
    # it goes on differently: nothing more is learned
    changed = {"train": {**SETTINGS["train"], "learning_rate": 1e-12, "ema_decay": 0.0}}
    back = plan(str(copied / "checkpoints" / "step_3"), **changed, run={"strict_resume": False})
    expected = json.loads((back.resume / "best" / "kept.json").read_text())
    restored = files(back.resume / "best")
    stopping = train(back, stop=lambda: True)
    list(stopping)
    assert expected["step"] <= 3
    assert files(copied / "best") == restored
    assert files(copied / "overtaken" / f"best_step_{json.loads(later['kept.json'])['step']}") == later


def test_nothing_is_moved_in_the_folder_of_a_run_that_is_going_on(copied, plan):
    back = plan(str(copied / "checkpoints" / "step_3"))
    before = files(copied)
    lock = take_lock(copied)
    with pytest.raises(ConfigError, match="is going on"):
        list(train(back))
    lock.release()
    assert files(copied) == before


def test_milestones_reached_later_are_set_aside_and_reached_anew(copied, plan, straight):
    reached = {path.name: said_by(path)["step"] for path in (copied / "milestones").iterdir()}
    late = [name for name, step in reached.items() if step > 3]
    assert 0 < len(late) < len(reached)
    back = str(copied / "checkpoints" / "step_3")
    list(train(plan(back), stop=lambda: True))
    assert {path.name for path in (copied / "milestones").iterdir()} == reached.keys() - set(late)
    assert {path.name for path in (copied / "overtaken").iterdir()} >= {f"{n}_step_{reached[n]}" for n in late}
    list(train(plan(back, run={"save_every_steps": 3})))
    assert_same_run(copied, straight[0])


def test_a_run_that_goes_on_elsewhere_takes_the_best_along(copied, plan):
    elsewhere = plan(str(copied / "checkpoints" / "step_6"), name="elsewhere")
    list(train(elsewhere, stop=lambda: True))
    assert files(elsewhere.run / "best") == files(copied / "checkpoints" / "step_6" / "best")


def test_a_best_of_another_measure_is_set_aside_and_looked_for_anew(copied, plan):
    before = files(copied / "best")
    keep = {**SETTINGS["keep"], "validation_points": 8}
    resumed = plan(str(copied / "checkpoints" / "step_9"), keep=keep)
    events = list(train(resumed))
    step = json.loads(before["kept.json"])["step"]
    assert notices(events)[0] == ("the best adapter is looked for anew: losses are measured in another way than before")
    assert steps(BestSaved, events) == [10]
    assert files(copied / "overtaken" / f"best_step_{step}") == before


def test_keeping_the_best_from_now_on_begins_with_nothing(plan):
    off = {"keep": {**SETTINGS["keep"], "save_best": False}}
    list(train(plan(**off, train={**SETTINGS["train"], "max_steps": 4})))
    events = list(train(plan("latest")))
    assert notices(events) == []
    assert steps(BestSaved, events)[0] == 6


def test_no_longer_keeping_the_best_leaves_the_one_there_is(copied, plan):
    before = files(copied / "best")
    longer = {"train": {**SETTINGS["train"], "epochs": 6}, "keep": {**SETTINGS["keep"], "save_best": False}}
    list(train(plan("latest", **longer)))
    again = {**longer, "train": {**longer["train"], "epochs": 7}}
    assert notices(train(plan("latest", **again))) == []
    assert files(copied / "best") == before


def test_a_milestone_that_is_new_is_kept_as_soon_as_the_loss_is_there(copied, plan):
    keep = {**SETTINGS["keep"], "loss_milestones": (50.0,)}
    events = list(train(plan(str(copied / "checkpoints" / "step_9"), keep=keep)))
    assert steps(MilestoneSaved, events) == [10]


def test_patience_goes_on_counting_where_it_was(plan):
    keep = {"save_best_after": 0, "early_stop_patience": 3}
    still = {"train": {**SETTINGS["train"], "learning_rate": 1e-12}, "keep": keep}
    list(train(whole := plan(name="whole", **still)))
    run_until(plan(**still), 5)
    list(train(resumed := plan("latest", **still)))
    assert [read_run(made.run).status for made in (whole, resumed)] == ["early-stop"] * 2
    assert files(whole.run / "final") == files(resumed.run / "final")


# The folders alone


def kept_folder(folder, step, text="mine"):
    folder.mkdir(parents=True)
    (folder / "adapter.txt").write_text(text)
    (folder / "kept.json").write_text(json.dumps({"step": step, "loss": 0.5}))
    return folder


def test_a_best_whose_replacement_was_interrupted_is_found(tmp_path):
    run = tmp_path / "run"
    copy = kept_folder(tmp_path / "copy", 4)
    # the name that the old folder has between the two renames of a replacement
    aside = kept_folder(run / f".best.{hash_text('best')[:16]}.tmp", 4)
    assert locate_folder(run / "best") == aside
    assert list(put_back(run, copy, {})) == []
    assert [path.name for path in run.iterdir()] == ["best"]


def test_what_an_interrupted_save_left_is_removed(tmp_path):
    run = tmp_path / "run"
    kept_folder(run / ".best.0123abcd.tmp", 4)
    kept_folder(run / "milestones" / ".loss_0.5.0123abcd.tmp", 4)
    kept_folder(run / ".final.0123abcd.tmp", 4)
    list(put_back(run, None, {}))
    assert sorted(path.name for path in run.rglob("*") if path.is_dir()) == [".final.0123abcd.tmp", "milestones"]


def test_a_folder_that_does_not_say_what_it_is_is_set_aside(tmp_path):
    run = tmp_path / "run"
    kept_folder(run / "best", 4)
    (run / "best" / "kept.json").write_text("{")
    assert len(list(put_back(run, None, {}))) == 1
    assert (run / "overtaken" / "best_step_0" / "adapter.txt").read_text() == "mine"


def test_milestones_of_another_course_of_the_run_are_set_aside(tmp_path):
    run = tmp_path / "run"
    for name, step in (("loss_0.6", 3), ("loss_0.5", 4), ("loss_0.4", 5)):
        kept_folder(run / "milestones" / name, step)
    lines = list(put_back(run, None, {"loss_0.6": 3, "loss_0.5": 7}))
    assert len(lines) == 2
    assert [path.name for path in (run / "milestones").iterdir()] == ["loss_0.6"]
    assert {path.name for path in (run / "overtaken").iterdir()} == {"loss_0.5_step_4", "loss_0.4_step_5"}


def test_the_same_adapter_set_aside_again_replaces_the_first(tmp_path):
    run = tmp_path / "run"
    for text in ("first", "second"):
        kept_folder(run / "best", 4, text)
        list(put_back(run, None, {}))
    assert (run / "overtaken" / "best_step_4" / "adapter.txt").read_text() == "second"


def test_a_checkpoint_shares_the_files_of_the_best_and_keeps_its_own_when_that_is_replaced(copied, straight, plan):
    run, events = straight
    first, *_, last = steps(BestSaved, events)
    copies = {step: run / "checkpoints" / f"step_{step}" / "best" for step in (3, 10)}
    assert {step: said_by(copy)["step"] for step, copy in copies.items()} == {
        3: max(step for step in steps(BestSaved, events) if step <= 3),
        10: last,
    }
    assert first < last
    if os.name != "nt":
        name = "small.safetensors"
        assert (copies[10] / name).stat().st_ino == (run / "best" / name).stat().st_ino
        assert (copies[3] / name).stat().st_ino != (run / "best" / name).stat().st_ino


def test_where_there_are_no_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    copy = kept_folder(tmp_path / "copy", 4)
    list(put_back(tmp_path / "run", copy, {}))
    assert files(tmp_path / "run" / "best") == files(copy)


def test_what_was_kept_comes_back_from_its_state():
    kept = Kept(
        best=Best(step=3, epoch=1, loss=1 / 3, tracked="validation"), measure="m", judged=4, milestones={"loss_1": 2}
    )
    assert Kept.from_state(json.loads(json.dumps(kept.state_dict()))) == kept
    assert Kept.from_state(json.loads(json.dumps(Kept().state_dict()))) == Kept()
