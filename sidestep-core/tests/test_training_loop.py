"""The loop on the tiny checkpoint: events, files, and what must hold of a step."""

import json

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file
from sidestep_core.builtins.configs import CruiseConfig
from sidestep_core.errors import CheckpointError, ConfigError, StoreError, TrainingDiverged
from sidestep_core.events import (
    CheckpointSaved,
    EpochDone,
    MemoryPlanned,
    Notice,
    RunFinished,
    RunStarted,
    StepsDone,
    StepSkipped,
)
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Chosen
from sidestep_core.runs import checkpoints, read_run
from sidestep_core.specs import OptimizerType, TimestepSamplerType
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training import sharing
from sidestep_core.training.loop import train
from sidestep_core.training.seeds import seed_of
from sidestep_core.training.step import backward

# peak rates for this small adapter where the usual one would need more steps than a test has
RATES = {"adafactor": 1e-2, "adamw8bit": 1e-2, "lion": 3e-3, "schedule_free": 3e-2}


class Spoiled:
    """A sampler whose timesteps are not finite at chosen steps."""

    def __init__(self, steps):
        self.seeds = {seed_of(42, "timestep", step, 0) for step in steps}

    def sample(self, batch_size, *, generator):
        return torch.full((batch_size,), torch.nan if generator.initial_seed() in self.seeds else 0.5)


@attrs.frozen(kw_only=True)
class Spoiling(TimestepSamplerType):
    steps: tuple[int, ...] = ()

    def load(self):
        return lambda config, context: Spoiled(self.steps)


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64, 71], rows=[5, 9])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(store=store, **tables):
        return tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)

    return make


def spoiled(plan, *steps):
    sampler = Chosen(spec=Spoiling(name="spoiled", summary="Bad numbers", target="no:where", steps=steps))
    return attrs.evolve(plan, components=attrs.evolve(plan.components, timesteps=sampler))


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def state_at(plan, step):
    return load_file(plan.run / "checkpoints" / f"step_{step}" / "adapter.safetensors")


def weights(folder):
    return load_file(folder / "small.safetensors")


def test_a_run_tells_what_happens_in_order(plan):
    kinds = [type(event) for event in train(plan(train={"epochs": 2}))]
    epoch = [StepsDone, StepsDone, EpochDone]
    assert kinds == [MemoryPlanned, RunStarted, *epoch, *epoch, CheckpointSaved, RunFinished]


def test_it_starts_with_what_is_trained(plan):
    made = plan()
    started = of(RunStarted, train(made))[0]
    assert (started.songs, started.trainable, started.total_steps) == (3, made.trainable, 6)


def test_a_finished_run_leaves_adapter_record_and_checkpoint(plan):
    made = plan()
    finished = list(train(made))[-1]
    assert (finished.reason, finished.step, finished.adapter) == ("complete", 6, made.run / "final")
    assert sorted(path.name for path in made.run.iterdir()) == [".lock", "checkpoints", "final", "run.json"]
    assert read_run(made.run).status == "complete"


def test_the_record_says_what_was_asked_for(plan):
    made = plan()
    list(train(made))
    record = json.loads((made.run / "run.json").read_text())
    assert record["request"]["train"]["learning_rate"] == 1e-2
    assert record["request"]["adapter"] == {"type": "small", "rank": 4, "dropout": 0.1}
    assert record["variant"] == "base"
    assert record["versions"]["torch"] == torch.__version__


def test_the_adapter_says_where_it_comes_from(plan):
    made = plan()
    list(train(made))
    lines = (made.run / "final" / "metadata.txt").read_text().splitlines()
    assert {"base_variant: base", "adapter_type: small", "rank: 4", "conditioning: inference", "run: tiny"} <= {*lines}


def test_loss_falls(plan):
    train_table = {"epochs": 40, "accumulation": 3, "conditioning_dropout": 0.0}
    losses = [event.loss for event in of(EpochDone, train(plan(train=train_table)))]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.1


def test_max_steps_shortens_the_schedule(plan):
    made = plan(train={"epochs": 1000, "max_steps": 5, "warmup_steps": 0})
    steps = of(StepsDone, train(made))
    assert [event.step for event in steps] == [1, 2, 3, 4, 5]
    assert steps[-1].learning_rate < 0.2 * steps[0].learning_rate


def test_a_run_cut_by_max_steps_says_so_and_has_its_adapter(plan):
    made = plan(train={"epochs": 1000, "max_steps": 3})
    finished = list(train(made))[-1]
    assert (finished.reason, finished.adapter) == ("max-steps", made.run / "final")


def test_epochs_shorter_than_the_accumulation_are_steps_all_the_same(plan):
    made = plan(train={"epochs": 30, "accumulation": 8, "max_steps": 5})
    assert [event.step for event in of(StepsDone, train(made))] == [1, 2, 3, 4, 5]


def test_progress_is_told_every_few_steps_and_at_the_end(plan):
    made = plan(train={"epochs": 7, "accumulation": 3}, run={"log_every": 3})
    assert [event.step for event in of(StepsDone, train(made))] == [3, 6, 7]


def test_reported_loss_is_the_mean_since_the_last_report(plan, tmp_path, tiny_checkpoint, store):
    each = [event.loss for event in of(StepsDone, train(plan(train={"epochs": 2})))]
    other = tiny_plan(tiny_checkpoint, store, tmp_path / "other", train={"epochs": 2}, run={"log_every": 2})
    both = [event.loss for event in of(StepsDone, train(other))]
    assert both == pytest.approx([(each[0] + each[1]) / 2, (each[2] + each[3]) / 2])


def test_the_same_request_gives_the_same_bytes(plan, tmp_path, tiny_checkpoint, store):
    first = plan(train={"epochs": 1})
    second = tiny_plan(tiny_checkpoint, store, tmp_path / "again", train={"epochs": 1})
    for made in (first, second):
        list(train(made))
    name = "final/small.safetensors"
    assert (first.run / name).read_bytes() == (second.run / name).read_bytes()


def test_accumulated_batches_weigh_by_frames_as_one_batch_does(plan, tmp_path, tiny_checkpoint, store):
    settings = {"epochs": 1, "conditioning_dropout": 0.0, "warmup_steps": 0}
    losses = []
    for name, batch_size, accumulation in (("one", 3, 1), ("three", 1, 3)):
        made = tiny_plan(
            tiny_checkpoint,
            store,
            tmp_path / name,
            train={**settings, "batch_size": batch_size, "accumulation": accumulation},
        )
        losses.append(of(StepsDone, train(spoiled(made)))[0].loss)
    # the noise is drawn for each batch, so that the two are equal in expectation only
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_checkpoints_come_every_few_epochs_and_at_the_end(plan):
    events = list(train(plan(train={"epochs": 5}, run={"save_every": 2})))
    assert [(event.epoch, event.step) for event in of(CheckpointSaved, events)] == [(2, 4), (4, 8), (5, 10)]


def test_checkpoints_come_every_few_steps_if_asked(plan):
    events = list(train(plan(train={"epochs": 2}, run={"save_every_steps": 3})))
    assert [event.step for event in of(CheckpointSaved, events)] == [3, 4]


def test_old_checkpoints_are_removed_if_asked(plan):
    made = plan(run={"save_every_steps": 1, "keep_last": 2})
    list(train(made))
    assert [step for step, _ in checkpoints(made.run)] == [5, 6]


def test_stopping_saves_everything_and_says_so(plan):
    made, events = plan(), []
    for event in train(made, stop=lambda: len(of(StepsDone, events)) == 2):
        events.append(event)
    assert (events[-1].reason, events[-1].step) == ("stopped", 2)
    assert [step for step, _ in checkpoints(made.run)] == [2]
    assert read_run(made.run).status == "stopped"
    assert weights(made.run / "final").keys()


def test_a_bad_step_is_named_and_changes_nothing(plan):
    made = spoiled(plan(run={"save_every_steps": 1}), 1)
    skipped = of(StepSkipped, train(made))
    assert [event.step for event in skipped] == [2]
    assert set(skipped[0].songs) < {"song 0.wav", "song 1.wav", "song 2.wav"}
    before, after, later = (state_at(made, step) for step in (1, 2, 3))
    assert all(before[name].equal(after[name]) for name in before)
    assert not all(after[name].equal(later[name]) for name in after)


def test_a_bad_step_leaves_the_losses_finite(plan):
    steps = of(StepsDone, train(spoiled(plan(run={"log_every": 2}), 1)))
    assert all(event.loss == event.loss and event.smoothed == event.smoothed for event in steps)


def test_ten_bad_steps_in_a_row_end_the_run_with_its_state_saved(plan):
    made, events = spoiled(plan(train={"epochs": 20}), *range(3, 40)), []
    with pytest.raises(TrainingDiverged, match="10 steps in a row") as error:
        events.extend(event for event in iter_into(train(made), events))
    assert error.value.exit_code == 3
    assert (events[-1].reason, events[-1].adapter) == ("failed", None)
    assert [step for step, _ in checkpoints(made.run)] == [13]
    assert read_run(made.run).status == "failed"


def iter_into(source, events):
    for event in source:
        events.append(event)
    return ()


def test_nine_bad_steps_in_a_row_do_not(plan):
    made = spoiled(plan(train={"epochs": 8}), *range(3, 12))
    assert list(train(made))[-1].reason == "complete"


def test_a_tensor_file_that_is_not_finite_is_named_and_nothing_is_written(plan, tmp_path, tiny_checkpoint):
    own = write_noise(tmp_path / "own", resolve_model(tiny_checkpoint, "base"), frames=[50, 60])
    file = own.latents_file(own.songs[1])
    save_file({"latents": torch.full((60, 64), torch.inf)}, file)
    with pytest.raises(StoreError, match=file.name):
        list(train(plan(own)))
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_loaded_leaves_nothing(plan, tmp_path):
    made = plan()
    nowhere = attrs.evolve(made.model, path=tmp_path / "nowhere")
    with pytest.raises((CheckpointError, FileNotFoundError)):
        list(train(attrs.evolve(made, model=nowhere)))
    assert not made.run.exists()


def test_a_device_that_is_not_there_is_refused(plan):
    with pytest.raises(ConfigError, match="no device 'cuda:7'"):
        list(train(plan(model={"device": "cuda:7"})))


def test_notices_of_the_plan_come_first(plan, store):
    events = list(train(plan(attrs.evolve(store, model="0" * 32), train={"epochs": 1})))
    assert isinstance(events[0], Notice)
    assert events[0].warning


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_recomputing_layers_changes_no_bit(plan, tmp_path, tiny_checkpoint, store, ratio):
    first = plan(train={"epochs": 1})
    second = tiny_plan(
        tiny_checkpoint, store, tmp_path / "again", train={"epochs": 1}, memory={"gradient_checkpointing_ratio": ratio}
    )
    for made in (first, second):
        list(train(made))
    name = "final/small.safetensors"
    assert (first.run / name).read_bytes() == (second.run / name).read_bytes()


def test_bf16_trains_with_a_float32_adapter(plan):
    made = plan(model={"precision": "bf16"}, train={"epochs": 1})
    finished = list(train(made))[-1]
    assert all(tensor.dtype == torch.float32 for tensor in weights(finished.adapter).values())
    assert any(tensor.abs().max() > 0 for name, tensor in weights(finished.adapter).items() if name.endswith("up"))


def test_batches_of_different_lengths_train(plan):
    finished = list(train(plan(train={"batch_size": 3, "accumulation": 1, "conditioning_dropout": 0.5})))[-1]
    assert finished.loss == finished.loss


def test_latents_with_deviation_train(plan, tmp_path, tiny_checkpoint):
    own = write_noise(tmp_path / "own", resolve_model(tiny_checkpoint, "base"), frames=[50, 60], latent="resample")
    assert list(train(plan(own, train={"epochs": 1})))[-1].reason == "complete"


def trained_on(monkeypatch, made):
    """Train and return the names of the songs that were read."""
    seen = set()
    monkeypatch.setattr(
        sharing,
        "backward",
        lambda trainer, batch: seen.update(c.song for c in batch.plan.crops) or backward(trainer, batch),
    )
    list(train(made))
    return {made.songs[index].name for index in seen}


def test_songs_that_are_held_out_are_never_trained_on_and_said_to_be(plan, monkeypatch):
    made = plan(data={"val_split": 0.4}, keep={"save_best_after": 0})
    notices = of(Notice, train(made))
    assert [notice.message for notice in notices] == ["1 of 3 songs are held out; run.json names them"]
    assert not notices[0].warning
    held = {song.name for song in made.held_out}
    again = attrs.evolve(made, run=made.run.with_name("again"))
    assert trained_on(monkeypatch, again) == {"song 0.wav", "song 1.wav", "song 2.wav"} - held


def test_several_folders_are_trained_on_together(plan, store, tmp_path, tiny_checkpoint, monkeypatch):
    other = write_noise(tmp_path / "other", resolve_model(tiny_checkpoint, "base"), frames=[40], rows=[3], seed=1)
    made = plan((store, other), data={"dataset_repeats": (1, 2), "dataset_weights": (1.0, 0.5)})
    assert trained_on(monkeypatch, made) == {song.name for song in made.songs}
    assert len(made.songs) == 4


def test_what_controllers_report_is_in_the_events(plan):
    components = tiny_components(controllers=("cosine", "cruise"), cruise=CruiseConfig(target_loss=1.0))
    steps = of(StepsDone, train(plan(components=components)))
    assert all(event.extra.keys() == {"target_loss_scale", "target_loss_ema"} for event in steps)
    assert steps[0].extra["target_loss_ema"] == steps[0].loss


def test_a_plain_run_has_nothing_more_to_tell(plan):
    assert all(event.extra == {} for event in of(StepsDone, train(plan())))


@pytest.mark.parametrize(
    "tables", [{"train": {"loss_weighting": "min_snr"}}, {"data": {"dataset_weights": (0.5,)}}], ids=str
)
def test_a_weighted_loss_is_told_beside_the_loss(plan, tables):
    steps = of(StepsDone, train(plan(**tables)))
    assert all(0 < event.extra["weighted_loss"] != event.loss for event in steps)


def test_the_loss_of_the_first_step_is_comparable_whatever_the_weights(plan, tmp_path, tiny_checkpoint, store):
    weighted = tiny_plan(tiny_checkpoint, store, tmp_path / "weighted", train={"loss_weighting": "min_snr"})
    assert of(StepsDone, train(weighted))[0].loss == of(StepsDone, train(plan()))[0].loss


def test_the_share_of_padding_is_told_where_there_may_be_some(plan):
    notices = of(Notice, train(plan(train={"batch_size": 3})))
    assert [notice.message for notice in notices] == ["13.1% of the frames in a batch are padding"]


def test_what_an_optimizer_has_to_say_is_told(plan):
    class Talkative:
        notices = ("I cannot do this here",)

        def create(self, groups):
            return torch.optim.SGD([dict(group) for group in groups])

    @attrs.frozen(kw_only=True)
    class Spec(OptimizerType):
        def load(self):
            return lambda config, context: Talkative()

    made = plan(train={"epochs": 1})
    chosen = Chosen(spec=Spec(name="talkative", summary="Talks", target="no:where"))
    made = attrs.evolve(made, components=attrs.evolve(made.components, optimizer=chosen))
    assert [(n.message, n.warning) for n in of(Notice, train(made))] == [("I cannot do this here", True)]


def assert_loss_falls(plan, optimizer, epochs):
    made = plan(
        components=tiny_components(optimizer=optimizer, controllers=("constant",)),
        train={
            "epochs": epochs,
            "accumulation": 3,
            "conditioning_dropout": 0.0,
            "learning_rate": RATES.get(optimizer),
        },
    )
    losses = [event.loss for event in of(EpochDone, train(made))]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.1


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw8bit", "lion", "schedule_free"])
def test_every_optimizer_makes_the_loss_fall(plan, optimizer):
    assert_loss_falls(plan, optimizer, 40)


@pytest.mark.slow
def test_prodigy_makes_the_loss_fall_once_it_has_found_its_rate(plan):
    assert_loss_falls(plan, "prodigy", 150)
