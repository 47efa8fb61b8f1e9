"""Which adapters are kept, and when a run ends by itself: judged values in, folders and events out."""

import json
import math
from types import SimpleNamespace

import pytest
from sidestep_core.builtins.configs import CruiseConfig
from sidestep_core.configs import KeepConfig
from sidestep_core.events import BestSaved, MilestoneSaved, RunFinished, Validated
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import read_run
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.keeping import Keeper
from sidestep_core.training.loop import train
from sidestep_core.training.state import RunState
from sidestep_core.training.validation import ValidationLoss

NO_BANDS = (math.nan,) * 10


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[30, 41, 52, 33], rows=[5])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    """Plans of runs with 2 steps an epoch, whose best is looked for from the start."""

    def make(name="run", **tables):
        tables["train"] = {"epochs": 50, **tables.get("train", {})}
        tables["keep"] = {"save_best_after": 0, **tables.get("keep", {})}
        return tiny_plan(tiny_checkpoint, store, tmp_path / name, **tables)

    return make


class Written:
    """An adapter that writes the step it is at."""

    def __init__(self):
        self.step = 0

    def save(self, folder, *, metadata):
        (folder / "adapter.txt").write_text(str(self.step))


class Told:
    """A validator that gives what it is told to."""

    measure = "told"

    def __init__(self):
        self.loss, self.calls = math.nan, 0

    def validate(self, trainer):
        self.calls += 1
        return ValidationLoss(self.loss, NO_BANDS)


class Judge:
    """A keeper with what it needs, and a way to show it one value after the other."""

    def __init__(self, plan, *, validated=True):
        self.adapter, self.validator = Written(), Told() if validated else None
        trainer = SimpleNamespace(
            adapter=self.adapter, parameters=[], optimizer=SimpleNamespace(optimizer=None), average=None
        )
        self.state = RunState(plan=plan, trainer=trainer, fingerprint={})
        self.keeper = Keeper(self.state, self.validator)
        self.run = plan.run

    def step(self, loss):
        """Do a step and return the events that it leads to."""
        self.state.step += 1
        self.adapter.step = self.state.step
        self.state.losses.add(loss, loss)
        if self.validator is not None:
            self.validator.loss = loss
        return list(self.keeper.after_step())

    def epochs(self, *losses):
        """Do an epoch of two steps for each loss and return the events."""
        return [event for loss in losses for event in (*self.step(loss), *self.step(loss))]

    def best(self):
        """Return what best/ says of itself, and the step that its adapter is of."""
        folder = self.run / "best"
        return json.loads((folder / "kept.json").read_text()), int((folder / "adapter.txt").read_text())


@pytest.fixture
def judge(plan):
    return lambda *, validated=True, **tables: Judge(plan(**tables), validated=validated)


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def steps(kind, events):
    return [event.step for event in of(kind, events)]


# The best


def test_the_best_is_kept_with_its_value_and_what_came_after_is_not(judge):
    made = judge()
    events = made.epochs(0.9, 0.7, 0.8)
    assert steps(BestSaved, events) == [2, 4]
    assert made.best() == ({"step": 4, "epoch": 2, "loss": 0.7, "tracked": "validation"}, 4)


def test_an_event_says_what_was_kept_and_where(judge):
    made = judge()
    (saved,) = of(BestSaved, made.epochs(0.9))
    assert saved == BestSaved(step=2, epoch=1, loss=0.9, tracked="validation", path=made.run / "best")


def test_without_held_out_songs_the_smoothed_loss_is_the_value(judge):
    made = judge(validated=False, train={"epochs": 5})
    events = made.epochs(0.9, 0.5)
    assert [event.loss for event in of(BestSaved, events)][-1] == made.state.losses.smoothed
    assert made.best()[0]["tracked"] == "smoothed"
    assert not of(Validated, events)


def test_a_gain_of_a_thousandth_is_no_new_best(judge):
    made = judge()
    assert steps(BestSaved, made.epochs(0.9, 0.8995, 0.8991)) == [2]
    # it counts from what was kept, not from the last value: a slow fall is followed
    assert steps(BestSaved, made.epochs(0.8989)) == [8]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_never_the_best(judge, loss):
    made = judge()
    assert steps(BestSaved, made.epochs(loss, 0.9, loss)) == [4]


def test_the_best_is_looked_for_after_some_epochs(judge):
    made = judge(keep={"save_best_after": 3})
    assert steps(BestSaved, made.epochs(0.1, 0.2, 0.9, 0.8)) == [6, 8]


def test_zero_epochs_mean_from_the_start(judge):
    assert steps(BestSaved, judge(keep={"save_best_after": 0}).epochs(0.9)) == [2]


def test_by_default_it_begins_after_two_hundred_epochs():
    assert (KeepConfig().save_best, KeepConfig().save_best_after) == (True, 200)


def test_no_best_is_kept_if_not_asked(judge):
    made = judge(keep={"save_best": False})
    assert not of(BestSaved, made.epochs(0.9, 0.8))
    assert not (made.run / "best").exists()


def test_steps_between_are_judged_by_the_same_value_and_never_replace_a_better_one(judge):
    made = judge(keep={"save_best_every_n_steps": 3})
    events = [event for loss in (0.9, 0.8, 0.5, 0.7, 0.6, 0.45) for event in made.step(loss)]
    assert steps(Validated, events) == [2, 3, 4, 6]
    assert steps(BestSaved, events) == [2, 3, 6]
    assert made.best()[1] == 6


def test_steps_between_are_not_looked_at_before_it_is_time(judge):
    made = judge(keep={"save_best_every_n_steps": 1, "save_best_after": 2})
    assert steps(Validated, made.epochs(0.9, 0.8, 0.7)) == [2, 4, 5, 6]


def test_held_out_songs_are_tried_once_where_several_occasions_meet(judge):
    made = judge(keep={"save_best_every_n_steps": 2, "loss_milestones": (0.95, 0.5)}, train={"epochs": 1})
    made.epochs(0.9)
    assert made.validator.calls == 1


def test_the_first_smoothed_losses_of_a_long_run_are_not_believed(judge):
    made = judge(validated=False, train={"epochs": 1000})
    # a low loss by chance at the start would never be beaten
    events = [event for loss in [0.1] + [0.9] * 59 for event in made.step(loss)]
    assert steps(BestSaved, events)[0] == 50


def test_in_a_short_run_they_are_believed_after_a_tenth_of_it(judge):
    made = judge(validated=False, train={"epochs": 40})  # 80 steps
    assert steps(BestSaved, made.epochs(*[0.9] * 6))[0] == 8


def test_validation_is_believed_at_once(judge):
    assert steps(BestSaved, judge(train={"epochs": 1000}).epochs(0.9)) == [2]


# Early stop


def test_a_run_gives_up_after_so_many_epochs_without_a_new_best(judge):
    made, gave_up = judge(keep={"early_stop_patience": 3}), []
    for loss in (0.9, 0.8, 0.85, 0.81, 0.82, 0.9):
        made.epochs(loss)
        gave_up.append(made.keeper.gives_up)
    assert gave_up == [False, False, False, False, True, True]


def test_a_new_best_begins_the_count_anew(judge):
    made, gave_up = judge(keep={"early_stop_patience": 2}), []
    for loss in (0.9, 0.95, 0.8, 0.85, 0.7, 0.75, 0.75):
        made.epochs(loss)
        gave_up.append(made.keeper.gives_up)
    assert gave_up == [False] * 6 + [True]


def test_it_never_gives_up_by_default(judge):
    made = judge()
    made.epochs(*[0.9] * 30)
    assert not made.keeper.gives_up


def test_patience_does_not_begin_before_the_best_is_looked_for(judge):
    made, gave_up = judge(keep={"early_stop_patience": 2, "save_best_after": 3}), []
    for loss in (0.1, 0.9, 0.9, 0.9, 0.9):
        made.epochs(loss)
        gave_up.append(made.keeper.gives_up)
    assert gave_up == [False, False, False, False, True]


def test_patience_counts_epochs_however_seldom_songs_are_tried(judge):
    made, gave_up = judge(keep={"early_stop_patience": 2, "validate_every": 3}), []
    for _ in range(6):
        made.epochs(0.9)
        gave_up.append(made.keeper.gives_up)
    # the best is of epoch 3, and the next trial comes with epoch 6
    assert gave_up == [False] * 5 + [True]


def test_patience_works_without_keeping_the_best(judge):
    made = judge(keep={"early_stop_patience": 1, "save_best": False})
    made.epochs(0.9, 0.9)
    assert made.keeper.gives_up
    assert not (made.run / "best").exists()


def test_a_run_that_gives_up_ends_with_its_adapter_and_says_why(plan):
    # nothing is learned at this rate
    settings = {"train": {"learning_rate": 1e-12}, "data": {"val_split": 0.3}, "keep": {"early_stop_patience": 2}}
    made = plan(**settings)
    finished = list(train(made))[-1]
    assert (finished.reason, finished.step, finished.adapter) == ("early-stop", 6, made.run / "final")
    assert read_run(made.run).status == "early-stop"


def test_resuming_a_run_that_gave_up_gives_up_at_once_unless_patience_grows(plan):
    settings = {"train": {"learning_rate": 1e-12}, "data": {"val_split": 0.3}}
    list(train(plan(**settings, keep={"early_stop_patience": 1})))
    resume = {"run": {"resume_from": "latest"}}
    ended = [list(train(plan(**settings, **resume, keep={"early_stop_patience": p})))[-1] for p in (1, 3)]
    assert [(event.reason, event.step) for event in ended] == [("early-stop", 4), ("early-stop", 8)]


def test_with_a_target_loss_patience_is_left_out_and_said_to_be(plan):
    components = tiny_components(controllers=("cosine", "cruise"), cruise=CruiseConfig(target_loss=0.5))
    made = plan(components=components, keep={"early_stop_patience": 3})
    assert made.patience == 0
    assert made.notices == ("--early-stop-patience is left out: with --target-loss the loss stays where it is wanted",)


def test_a_target_of_zero_leaves_patience_alone(plan):
    components = tiny_components(controllers=("cruise",), cruise=CruiseConfig(target_loss=0.0))
    made = plan(components=components, keep={"early_stop_patience": 3})
    assert (made.patience, made.notices) == (3, ())


@pytest.mark.parametrize(
    ("tables", "warned"),
    [
        ({"data": {"val_split": 0.3}}, True),
        ({"keep": {"early_stop_patience": 2}}, True),
        ({"keep": {"early_stop_patience": 2, "save_best": False}}, True),
        ({"data": {"val_split": 0.3}, "keep": {"save_best": False}}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_run_too_short_for_the_best_says_so_where_one_may_be_expected(plan, tables, warned):
    made = plan(**{**tables, "keep": {"save_best_after": 51, **tables.get("keep", {})}})
    expected = (
        "the best adapter is not looked for: that begins after 51 epochs (--save-best-after) and the run has 50",
    )
    assert made.notices == (expected if warned else ())


def test_a_run_just_long_enough_says_nothing(plan):
    assert plan(data={"val_split": 0.3}, keep={"save_best_after": 50}).notices == ()


# Milestones


def test_the_adapter_is_kept_the_first_time_each_loss_is_reached(judge):
    made = judge(keep={"loss_milestones": (0.4, 0.6, 0.5), "save_best": False})
    events = made.epochs(0.9, 0.6, 0.7, 0.55, 0.6)
    (reached,) = of(MilestoneSaved, events)
    folder = made.run / "milestones" / "loss_0.6"
    assert reached == MilestoneSaved(step=4, epoch=2, milestone=0.6, loss=0.6, path=folder)
    assert (folder / "adapter.txt").read_text() == "4"
    assert [path.name for path in folder.parent.iterdir()] == ["loss_0.6"]


def test_several_that_are_passed_at_once_are_all_kept(judge):
    made = judge(keep={"loss_milestones": (0.4, 0.6, 0.5)})
    assert [event.milestone for event in of(MilestoneSaved, made.epochs(0.45))] == [0.6, 0.5]


def test_a_milestone_says_what_it_was_judged_by(judge):
    made = judge(keep={"loss_milestones": (2.0,)})
    made.epochs(1.5)
    said = json.loads((made.run / "milestones" / "loss_2" / "kept.json").read_text())
    assert said == {"step": 2, "epoch": 1, "loss": 1.5, "tracked": "validation", "milestone": 2.0}


def test_without_held_out_songs_they_are_looked_for_after_every_step(judge):
    made = judge(validated=False, keep={"loss_milestones": (0.5,)}, train={"epochs": 5})
    assert steps(MilestoneSaved, made.step(0.4)) == [1]


def test_milestones_do_not_wait_for_the_best_to_be_looked_for(judge):
    made = judge(keep={"loss_milestones": (0.5,), "save_best_after": 30})
    assert steps(MilestoneSaved, made.epochs(0.4)) == [2]


def test_a_loss_that_is_no_number_reaches_none(judge):
    assert not of(MilestoneSaved, judge(keep={"loss_milestones": (0.5,)}).epochs(math.nan))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_a_milestone_must_be_a_loss(bad):
    with pytest.raises(ValueError, match="loss_milestones must be above 0 and finite"):
        KeepConfig(loss_milestones=(0.5, bad))


# The whole


def test_a_run_keeps_adapters_that_can_be_told_apart(plan):
    made = plan(
        train={"epochs": 8, "warmup_steps": 0}, data={"val_split": 0.3}, keep={"loss_milestones": (100.0, 1e-3)}
    )
    events = list(train(made))
    assert of(RunFinished, events)[0].reason == "complete"
    best = of(BestSaved, events)[-1]
    assert {path.name for path in made.run.iterdir()} == {
        ".lock",
        "best",
        "checkpoints",
        "final",
        "milestones",
        "run.json",
    }
    assert [path.name for path in (made.run / "milestones").iterdir()] == ["loss_100"]
    assert best.loss == min(event.loss for event in of(Validated, events) if event.step <= best.step)
    names = {path.name for path in (made.run / "final").iterdir()}
    assert {path.name for path in (made.run / "best").iterdir()} == {*names, "kept.json"}
