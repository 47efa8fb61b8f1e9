"""Resume: a run that was stopped ends in the same bytes as one that was not, or says why it cannot go on."""

import json

import attrs
import pytest
from sidestep_core.builtins.configs import CruiseConfig, WeightDecayConfig
from sidestep_core.errors import ResumeError
from sidestep_core.events import EpochDone, Notice, RunStarted, StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import read_run
from sidestep_core.testing.tiny_run import SmallConfig, tiny_components, tiny_plan, write_noise
from sidestep_core.training import sharing
from sidestep_core.training.loop import train
from sidestep_core.training.step import backward

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
    """Return the content of every file in a folder and below."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


# everything that has a state: average, adapting timesteps, cruise; with weights by timestep and by folder
STATEFUL = {
    "train": {**RANDOM["train"], "ema_decay": 0.8, "loss_weighting": "min_snr", "timestep_min": 0.05},
    "data": {**RANDOM["data"], "dataset_weights": (0.5,)},
}
CRUISE = CruiseConfig(target_loss=2.0, target_loss_warmup=2, target_loss_smoothing=0.5)
OPTIMIZERS = ["adamw", "adamw8bit", "adafactor", "prodigy", "lion", "schedule_free"]


def stateful(optimizer):
    return tiny_components(timesteps="adaptive", controllers=("cosine", "cruise"), optimizer=optimizer, cruise=CRUISE)


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that makes a `stop` callable: true once a number of batches were run from now on."""
    run = []
    monkeypatch.setattr(sharing, "backward", lambda *given: run.append(given) or backward(*given))

    def make(batches):
        begin = len(run)
        return lambda: len(run) - begin >= batches

    return make


@pytest.fixture(scope="module")
def straight_by_optimizer(tmp_path_factory, tiny_checkpoint, store):
    """A function that returns the losses and the newest checkpoint and final files of runs that were never stopped."""
    done = {}

    def run(optimizer):
        if optimizer not in done:
            folder = tmp_path_factory.mktemp(optimizer) / "run"
            plan = tiny_plan(tiny_checkpoint, store, folder, components=stateful(optimizer), **STATEFUL)
            done[optimizer] = losses(train(plan)), files(folder / "checkpoints" / "step_9"), files(folder / "final")
        return done[optimizer]

    return run


def assert_resumes(plan, stop_after, straight, optimizer, batches):
    components = stateful(optimizer)
    list(train(plan(components=components, **STATEFUL), stop=stop_after(batches)))
    resumed = plan("latest", components=components, **STATEFUL)
    events = list(train(resumed))
    step = next(event.step for event in events if isinstance(event, RunStarted))
    expected, checkpoint, final = straight(optimizer)
    assert 0 < step < 9
    assert losses(events) == {at: loss for at, loss in expected.items() if at > step}
    assert files(resumed.run / "checkpoints" / "step_9") == checkpoint
    assert files(resumed.run / "final") == final


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_with_state_everywhere_resumes_to_the_bit(plan, stop_after, straight_by_optimizer, optimizer):
    assert_resumes(plan, stop_after, straight_by_optimizer, optimizer, 7)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 2, 4, 5, 9, 11, 14])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_resumes_to_the_bit_from_any_batch(plan, stop_after, straight_by_optimizer, optimizer, batches):
    assert_resumes(plan, stop_after, straight_by_optimizer, optimizer, batches)


def test_everything_that_has_a_state_had_an_effect(straight_by_optimizer):
    _, checkpoint, _ = straight_by_optimizer("adamw")
    state = json.loads(checkpoint["state.json"])
    assert state["controllers"]["cruise"]["ema"] < 2.6
    assert len({*state["sampler"]["losses"]}) > 2
    assert checkpoint["average.safetensors"] != checkpoint["adapter.safetensors"]


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
    changed = plan("latest", components=tiny_components(small=SmallConfig(rank=8)))
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
        {"memory": {"gradient_checkpointing": True, "block_swap": 2}},
        {"data": {**RANDOM["data"], "num_workers": 0, "pin_memory": False}},
    ],
)
def test_what_changes_no_number_may_change(plan, straight, tables):
    run_until(plan(), 2)
    resumed = plan("latest", **tables)
    list(train(resumed))
    assert files(resumed.run / "final") == straight[1]


def relaxed_notices(plan, before, after):
    """Stop a run, go on with other settings, and return what was said."""
    run_until(plan(**before), 2)
    after = {**after, "run": {"strict_resume": False}}
    return [event.message for event in train(plan("latest", **after)) if isinstance(event, Notice)]


def averaged(decay):
    return {"train": {**RANDOM["train"], "ema_decay": decay}}


def test_an_average_that_is_new_begins_where_the_run_goes_on(plan):
    assert relaxed_notices(plan, {}, averaged(0.9)) == [
        "resuming although train.ema_decay was 0.0, now 0.9",
        "the average of the weights begins at step 2",
    ]


def test_an_average_that_is_given_up_is_said_to_end(plan):
    notices = relaxed_notices(plan, averaged(0.9), {})
    assert notices[1] == "the average of the weights ends: the run goes on with the weights themselves"


def test_another_optimizer_starts_afresh_and_says_so(plan):
    notices = relaxed_notices(plan, {}, {"components": tiny_components(optimizer="lion")})
    assert notices == [
        "resuming although optimizer.type was 'adamw', now 'lion'",
        "the optimizer starts afresh: what it learned belongs to other settings",
    ]


def test_a_changed_optimizer_uses_its_new_settings(plan):
    changed = tiny_components(adamw=WeightDecayConfig(weight_decay=0.5))
    assert relaxed_notices(plan, {}, {"components": changed})[0].endswith("was 0.01, now 0.5")
    checkpoint = plan("latest", components=changed).resume / "state.json"
    assert json.loads(checkpoint.read_text())["optimizer"]["param_groups"][0]["weight_decay"] == 0.5


def test_another_sampler_starts_afresh_and_says_so(plan):
    notices = relaxed_notices(
        plan,
        {"components": tiny_components(timesteps="discrete")},
        {"components": tiny_components(timesteps="adaptive")},
    )
    assert notices[-1] == "the timestep sampler starts afresh"


def test_a_window_keeps_what_the_sampler_learned(plan):
    components = tiny_components(timesteps="adaptive")
    narrower = {"train": {**RANDOM["train"], "timestep_min": 0.5}, "components": components}
    assert relaxed_notices(plan, {"components": components}, narrower) == [
        "resuming although train.timestep_min was 0.0, now 0.5"
    ]


def test_an_average_is_refused_to_change_by_name(plan):
    run_until(plan(), 1)
    with pytest.raises(ResumeError, match=r"train\.ema_decay was 0\.0, now 0\.9"):
        list(train(plan("latest", **averaged(0.9))))
