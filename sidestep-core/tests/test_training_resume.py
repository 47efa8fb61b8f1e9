"""Resume: a run that was stopped ends in the same bytes as one that was not, or says why it cannot go on."""

import attrs
import pytest
from sidestep_core.errors import ResumeError
from sidestep_core.events import EpochDone, Notice, RunStarted, StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Chosen
from sidestep_core.runs import read_run
from sidestep_core.testing.tiny_run import SMALL, SmallConfig, tiny_plan, write_noise
from sidestep_core.training.loop import train

# everything random at once: adapter dropout (its default), dropped conditions, crops, latents drawn anew
RANDOM = {"train": {"epochs": 3, "conditioning_dropout": 0.4}, "data": {"max_latent_length": 40}}


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    folder = tmp_path_factory.mktemp("store")
    return write_noise(folder, model, frames=[50, 64, 71, 33, 80], rows=[5, 9], latent="resample")


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_checkpoint, store):
    """The losses and final files of a run that was never stopped."""
    plan = tiny_plan(tiny_checkpoint, store, tmp_path_factory.mktemp("straight") / "run", **RANDOM)
    events = list(train(plan))
    return events, files(plan.run / "final")


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(resume_from=None, store=store, **tables):
        tables = {**RANDOM, **tables}
        tables["run"] = {"resume_from": resume_from, **tables.get("run", {})}
        return tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)

    return make


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_until(plan, steps):
    """Train until a number of steps of this call are done, then stop."""
    done, events = [], []
    for event in train(plan, stop=lambda: len(done) >= steps):
        events.append(event)
        done.extend([event] if isinstance(event, StepsDone) else [])
    return events


def losses(events):
    return {event.step: event.loss for event in events if isinstance(event, StepsDone)}


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
def test_a_run_stopped_at_any_step_ends_in_the_same_bytes(plan, straight, steps):
    run_until(plan(), steps)
    resumed = plan("latest")
    events = list(train(resumed))
    assert files(resumed.run / "final") == straight[1]
    assert losses(events) == {step: loss for step, loss in losses(straight[0]).items() if step > steps}


def test_a_run_stopped_again_and_again_ends_in_the_same_bytes(plan, straight):
    run_until(plan(), 2)
    run_until(plan("latest"), 1)
    run_until(plan("latest"), 4)
    resumed = plan("latest")
    list(train(resumed))
    assert files(resumed.run / "final") == straight[1]


def test_a_run_that_died_goes_on_from_its_newest_checkpoint(plan, straight):
    dying = train(plan(run={"save_every_steps": 2}))
    for event in dying:
        if isinstance(event, StepsDone) and event.step == 5:
            break
    dying.close()
    resumed = plan("latest")
    events = list(train(resumed))
    assert next(event for event in events if isinstance(event, RunStarted)).step == 4
    assert files(resumed.run / "final") == straight[1]


@pytest.mark.parametrize("batch", [{"batch_size": 2, "accumulation": 2}, {"batch_size": 3, "accumulation": 8}])
def test_batches_and_short_windows_resume_exactly(plan, tmp_path, tiny_checkpoint, store, batch):
    settings = {**RANDOM, "train": {**RANDOM["train"], **batch}}
    whole = tiny_plan(tiny_checkpoint, store, tmp_path / "whole", **settings)
    list(train(whole))
    run_until(plan(**settings), 1)
    resumed = plan("latest", **settings)
    list(train(resumed))
    assert files(resumed.run / "final") == files(whole.run / "final")


def test_the_mean_loss_of_an_interrupted_epoch_is_that_of_the_whole_epoch(plan, straight):
    run_until(plan(), 2)
    epochs = [
        [event.loss for event in events if isinstance(event, EpochDone)]
        for events in (train(plan("latest")), straight[0])
    ]
    assert epochs[0] == epochs[1]


def test_a_finished_run_can_be_lengthened_and_follows_the_longer_schedule(plan, tmp_path, tiny_checkpoint, store):
    list(train(plan(train={**RANDOM["train"], "epochs": 2})))
    longer = {**RANDOM, "train": {**RANDOM["train"], "epochs": 4}}
    rates = [event.learning_rate for event in train(plan("latest", **longer)) if isinstance(event, StepsDone)]
    whole = tiny_plan(tiny_checkpoint, store, tmp_path / "whole", **longer)
    expected = [event.learning_rate for event in train(whole) if isinstance(event, StepsDone)]
    assert rates == expected[-len(rates) :]
    assert len(rates) == 6


def test_a_run_that_already_ended_says_so_and_keeps_its_bytes(plan, straight):
    list(train(plan()))
    resumed = plan("latest")
    events = list(train(resumed))
    assert any(isinstance(event, Notice) and "raise --epochs or --max-steps" in event.message for event in events)
    assert files(resumed.run / "final") == straight[1]


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ({"train": {**RANDOM["train"], "learning_rate": 0.5}}, r"train\.learning_rate was 0\.01, now 0\.5"),
        ({"train": {**RANDOM["train"], "batch_size": 2}}, r"train\.batch_size was 1, now 2"),
        ({"data": {"max_latent_length": 41}}, r"data\.max_latent_length was 40, now 41"),
        ({"data": {}}, r"data\.max_latent_length was 40, now None"),
        ({"targets": {"target_mlp": False}}, r"targets\.target_mlp was True, now False"),
        ({"model": {"precision": "bf16"}}, r"model\.precision was 'fp32', now 'bf16'"),
    ],
)
def test_a_changed_setting_is_refused_by_name(plan, tables, line):
    run_until(plan(), 1)
    with pytest.raises(ResumeError, match=line):
        list(train(plan("latest", **tables)))


def test_a_changed_adapter_is_refused_by_name(plan):
    run_until(plan(), 1)
    changed = plan("latest")
    adapter = Chosen(spec=SMALL, config=SmallConfig(rank=8))
    changed = attrs.evolve(changed, components=attrs.evolve(changed.components, adapter=adapter))
    with pytest.raises(ResumeError, match=r"adapter\.rank was 4, now 8"):
        list(train(changed))


def test_changed_songs_are_refused_by_name(plan, store):
    run_until(plan(), 1)
    songs = (attrs.evolve(store.songs[0], repeat=2), *store.songs[1:-1], attrs.evolve(store.songs[-1], name="new.wav"))
    with pytest.raises(ResumeError) as error:
        list(train(plan("latest", store=attrs.evolve(store, songs=songs))))
    lines = str(error.value).splitlines()
    assert "  1 songs gone, such as 'song 4.wav'" in lines
    assert "  1 songs new, such as 'new.wav'" in lines
    assert "  1 songs changed, such as 'song 0.wav'" in lines


def test_a_refused_resume_leaves_the_run_as_it_was(plan):
    made = plan()
    run_until(made, 1)
    before = (made.run / "run.json").read_bytes()
    with pytest.raises(ResumeError):
        list(train(plan("latest", data={})))
    assert (made.run / "run.json").read_bytes() == before


def test_without_strict_resume_differences_are_listed_and_ignored(plan):
    run_until(plan(), 1)
    relaxed = plan("latest", train={**RANDOM["train"], "learning_rate": 0.5}, run={"strict_resume": False})
    events = list(train(relaxed))
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == ["resuming although train.learning_rate was 0.01, now 0.5"]
    assert read_run(relaxed.run).status == "complete"


@pytest.mark.parametrize(
    "tables",
    [
        {"run": {"save_every": 1, "log_every": 3, "keep_last": 1}},
        {"train": {**RANDOM["train"], "gradient_checkpointing": True}},
        {"data": {**RANDOM["data"], "num_workers": 0, "pin_memory": False}},
    ],
)
def test_what_changes_no_number_may_change(plan, straight, tables):
    run_until(plan(), 2)
    resumed = plan("latest", **tables)
    list(train(resumed))
    assert files(resumed.run / "final") == straight[1]
