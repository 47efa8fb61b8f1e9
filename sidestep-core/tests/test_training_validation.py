"""Validation: the same number each time, of what a run gives away, and no trace of it in the run."""

import contextlib
import json
import math

import attrs
import pytest
import torch
from sidestep_core.builtins.configs import AdaptiveConfig
from sidestep_core.device import make_accelerator
from sidestep_core.errors import StoreError
from sidestep_core.events import EpochDone, StepsDone, Validated
from sidestep_core.model.layout import resolve_model
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training import validation
from sidestep_core.training.averaging import final_weights
from sidestep_core.training.bands import band_of
from sidestep_core.training.checkpoints import read_checkpoint
from sidestep_core.training.loop import train
from sidestep_core.training.modes import evaluating
from sidestep_core.training.seeds import generator
from sidestep_core.training.setup import make_setup
from sidestep_core.training.state import RunState
from sidestep_core.training.step import backward, update
from sidestep_core.training.validation import make_trials
from torch import nn

ADAPTING = AdaptiveConfig(adaptive_timestep_ratio=0.9)


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    folder = tmp_path_factory.mktemp("store")
    return write_noise(folder, model, frames=[50, 64, 71, 33, 80], rows=[5, 9], latent="resample")


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(name="run", store=store, **tables):
        tables = {"data": {"val_split": 0.4}, **tables}
        return tiny_plan(tiny_checkpoint, store, tmp_path / name, **tables)

    return make


def ready(plan):
    return make_setup(plan, make_accelerator("cpu", "fp32"), "fp32")


def step_on(setup, steps=3):
    """Train some steps; the adapter, the average and the optimizer are not as they were then."""
    for step in range(steps):
        losses = [backward(setup.trainer, setup.batches[p]) for p in setup.order.plans(step, step + 1)]
        update(setup.trainer, step, losses)
    return setup


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trials(songs, draws, **settings):
    usual = {"seed": 42, "window": None, "points": 8, "batch_size": 2}
    return list(make_trials(songs, draws, **{**usual, **settings}))


def timesteps(plan, **settings):
    """Return the timesteps of each song that is held out, in order."""
    setup = ready(plan)
    by_song = {}
    for trial in setup.validator.trials:
        for t, crop in zip(trial.t, trial.plan.crops, strict=True):
            by_song.setdefault(crop.song, []).append(t)
    return list(by_song.values())


def test_two_validations_of_the_same_weights_give_the_same_number_to_the_bit(plan):
    setup = step_on(ready(plan(train={"ema_decay": 0.5})))
    first, second = (setup.validator.validate(setup.trainer) for _ in range(2))
    assert first.loss == second.loss
    assert repr(first.bands) == repr(second.bands)


def test_another_setup_of_the_same_run_gives_that_number_too(plan):
    first, second = (step_on(ready(plan())) for _ in range(2))
    assert first.validator.validate(first.trainer).loss == second.validator.validate(second.trainer).loss


def test_after_a_resume_it_is_the_same_number(plan):
    # a sampler that has learned something by then
    components = tiny_components(timesteps="adaptive", adaptive=ADAPTING)
    tables = {"components": components, "train": {"epochs": 2, "ema_decay": 0.5}}
    told = [event for event in train(plan(**tables)) if isinstance(event, Validated)]
    resumed = plan(**tables, run={"resume_from": "latest"})
    setup, checkpoint = ready(resumed), read_checkpoint(resumed.resume)
    state = RunState(plan=resumed, trainer=setup.trainer, fingerprint=checkpoint.state["fingerprint"])
    state.restore(checkpoint)
    assert setup.validator.validate(setup.trainer).loss == told[-1].loss


def test_it_comes_at_the_end_of_every_epoch(plan):
    told = [event for event in train(plan()) if isinstance(event, EpochDone | Validated)]
    assert [type(event) for event in told] == [EpochDone, Validated] * 3
    assert [(e.step, e.epoch) for e in told[1::2]] == [(2, 1), (4, 2), (6, 3)]


@pytest.mark.parametrize(
    ("train_table", "expected"), [({"epochs": 5}, [4, 8, 10]), ({"epochs": 9, "max_steps": 5}, [4, 5])]
)
def test_it_comes_every_few_epochs_if_asked_and_at_the_end(plan, train_table, expected):
    events = train(plan(train=train_table, keep={"validate_every": 2}))
    assert [event.step for event in events if isinstance(event, Validated)] == expected


def test_there_is_none_without_held_out_songs(plan):
    made = plan(data={}, train={"epochs": 1})
    assert ready(made).validator is None
    assert not [event for event in train(made) if isinstance(event, Validated)]


EVERYTHING = {
    "data": {"val_split": 0.4, "max_latent_length": 40},
    "train": {"ema_decay": 0.8, "conditioning_dropout": 0.4, "loss_weighting": "min_snr"},
}


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("schedule_free", marks=pytest.mark.slow)])
def test_training_with_and_without_validation_gives_the_same_bytes(plan, optimizer):
    components = tiny_components(timesteps="adaptive", optimizer=optimizer, adaptive=ADAPTING)
    ema = 0.0 if optimizer == "schedule_free" else 0.8
    tables = {**EVERYTHING, "components": components, "train": {**EVERYTHING["train"], "ema_decay": ema}}
    keep = {"save_best_after": 0, "save_best_every_n_steps": 1, "loss_milestones": (3.0,)}
    judged = plan("judged", **tables, keep=keep)
    # the same songs, and nothing that looks at the others
    alone = attrs.evolve(plan("alone", **tables, keep={"save_best": False}), held_out=())
    losses = [[e.loss for e in train(made) if isinstance(e, StepsDone)] for made in (judged, alone)]
    assert losses[0] == losses[1]
    for name in ("final", "checkpoints/step_6/adapter"):
        assert files(judged.run / name) == files(alone.run / name)
    for name in ("adapter.safetensors", "optimizer.safetensors"):
        checkpoint = "checkpoints/step_6"
        assert (judged.run / checkpoint / name).read_bytes() == (alone.run / checkpoint / name).read_bytes()
    states = [json.loads((made.run / "checkpoints/step_6/state.json").read_text()) for made in (judged, alone)]
    assert all(states[0][key] == states[1][key] for key in states[0].keys() - {"kept"})


def test_validating_moves_nothing(plan):
    setup = step_on(ready(plan(components=tiny_components(timesteps="adaptive"), train={"ema_decay": 0.5})))
    trainer = setup.trainer

    def everything():
        optimizer = trainer.optimizer.state_dict()["state"]
        return [
            *(parameter.detach().clone() for parameter in trainer.decoder.parameters()),
            *(value.clone() for value in trainer.average.values),
            *(torch.as_tensor(value).clone() for values in optimizer.values() for value in values.values()),
            torch.get_rng_state(),
            torch.tensor(trainer.sampler.losses),
            torch.tensor([module.training for module in trainer.decoder.modules()]),
            torch.tensor([parameter.grad is None for parameter in trainer.parameters]),
        ]

    before = everything()
    setup.validator.validate(trainer)
    assert all(a.equal(b) for a, b in zip(before, everything(), strict=True))


def expected_loss(setup, plan):
    """Return the mean error of the held-out songs, worked out one sample after the other with the decoder alone."""
    decoder, errors, frames, bands = setup.trainer.decoder, 0.0, 0, {}
    songs = [setup.validator._batches._song(index) for index in range(len(plan.held_out))]
    for trial in setup.validator.trials:
        for t, crop in zip(trial.t, trial.plan.crops, strict=True):
            latents, conditioning = songs[crop.song].latents, songs[crop.song].conditioning
            inside = slice(crop.start, crop.start + crop.length)
            draw = torch.randn(crop.length, 64, generator=torch.Generator().manual_seed(crop.draw))
            x0 = latents.mean[inside] + latents.std[inside] * draw
            noise = torch.randn(crop.length, 64, generator=generator("cpu", crop.draw, "noise"))
            with torch.no_grad():
                flow = decoder((t * noise + (1 - t) * x0)[None], torch.tensor([t]), conditioning[None])[0]
            error = (flow - (noise - x0)).square().mean(dim=1).sum().item()
            errors, frames = errors + error, frames + crop.length
            band = bands.setdefault(band_of(t), [0.0, 0])
            band[0], band[1] = band[0] + error, band[1] + crop.length
    return errors / frames, {band: error / count for band, (error, count) in bands.items()}


def test_it_is_the_mean_error_over_real_frames_without_any_dropout(plan):
    made = plan(data={"val_split": 0.4, "max_latent_length": 60}, train={"conditioning_dropout": 1.0})
    setup = step_on(ready(made))
    result = setup.validator.validate(setup.trainer)
    setup.trainer.decoder.eval()
    loss, bands = expected_loss(setup, made)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert {i: mean for i, mean in enumerate(result.bands) if not math.isnan(mean)} == pytest.approx(bands, rel=1e-5)
    assert len({min(song.frames, 60) for song in made.held_out}) == 2  # the mean has to weigh them differently


@pytest.mark.parametrize("optimizer", ["adamw", "schedule_free"])
def test_it_measures_what_the_run_would_give_away(plan, optimizer):
    decay = 0.9 if optimizer == "adamw" else 0.0
    made = plan(train={"ema_decay": decay}, components=tiny_components(optimizer=optimizer))
    setup = step_on(ready(made))
    trainer = setup.trainer
    told = setup.validator.validate(trainer).loss
    trainer.decoder.eval()
    live = expected_loss(setup, made)[0]
    with final_weights(trainer.parameters, trainer.optimizer, trainer.average):
        given = expected_loss(setup, made)[0]
    assert told == pytest.approx(given, rel=1e-5)
    assert abs(live - given) > 1e-4 * given


def test_the_device_is_read_once(plan, monkeypatch):
    setup = ready(plan())
    reads = []
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__float__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *given, real=real, name=name: reads.append(name) or real(self, *given)
        )
    setup.validator.validate(setup.trainer)
    assert reads == ["tolist"]


def test_timesteps_are_those_of_training_one_from_each_equal_share(plan):
    draws = torch.rand(16384, generator=torch.Generator().manual_seed(1))
    songs = plan().held_out
    for trial_t in ([t for trial in trials([song], draws) for t in trial.t] for song in songs):
        assert [math.ceil(t * 8) for t in trial_t] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_songs_have_timesteps_of_their_own(plan):
    first, second = timesteps(plan())
    assert not set(first) & set(second)


def test_on_average_they_are_as_training_draws_them(plan):
    # mean and deviation of the larger of two logit-normal draws
    t = torch.tensor([t for song in timesteps(plan(keep={"validation_points": 64})) for t in song])
    assert t.mean().item() == pytest.approx(0.5347, abs=0.01)
    assert t.std().item() == pytest.approx(0.1790, abs=0.01)


def test_they_keep_to_the_window_of_timesteps(plan):
    made = plan(train={"timestep_min": 0.3, "timestep_max": 0.6})
    assert all(0.3 <= t <= 0.6 for song in timesteps(made) for t in song)


def test_eight_points_are_the_eight_steps_of_turbo(plan):
    steps = sorted(3 * u / (1 + 2 * u) for u in (1 - k / 8 for k in range(8)))
    made = plan(components=tiny_components(timesteps="discrete"), keep={"validation_points": 8})
    for song in timesteps(made):
        assert sorted(song) == pytest.approx(steps)


@pytest.mark.parametrize(("points", "batch_size", "sizes"), [(8, 2, [2] * 4), (5, 2, [2, 2, 1]), (1, 6, [1])])
def test_points_of_a_song_share_forward_passes(plan, points, batch_size, sizes):
    song = plan().held_out[:1]
    made = trials(song, torch.rand(100), points=points, batch_size=batch_size)
    assert [len(trial.t) for trial in made] == sizes


def test_whole_songs_are_tried_without_a_window(plan):
    songs = plan().held_out
    for trial in trials(songs, torch.rand(100)):
        assert {(crop.start, crop.length) for crop in trial.plan.crops} == {(0, songs[trial.plan.crops[0].song].frames)}


def test_with_a_window_every_point_has_a_stretch_of_its_own(plan):
    song = max(plan().held_out, key=lambda song: song.frames)
    crops = [crop for trial in trials([song], torch.rand(100), window=20) for crop in trial.plan.crops]
    assert {crop.length for crop in crops} == {20}
    assert len({crop.start for crop in crops}) == 8
    assert all(0 <= crop.start <= song.frames - 20 for crop in crops)


def test_nothing_is_ever_dropped_or_weighted(plan):
    made = plan(train={"conditioning_dropout": 1.0}, data={"val_split": 0.4, "dataset_weights": (0.1,)})
    crops = [crop for trial in ready(made).validator.trials for crop in trial.plan.crops]
    assert {(crop.dropped, crop.weight) for crop in crops} == {(False, 1.0)}


@pytest.mark.parametrize(
    "tables",
    [
        {"keep": {"validation_points": 8}},
        {"train": {"timestep_min": 0.1}},
        {"train": {"seed": 1}},
        {"data": {"val_split": 0.4, "max_latent_length": 40}},
        {"data": {"val_split": 0.2}},
        {"components": tiny_components(timesteps="discrete")},
    ],
    ids=["points", "timesteps", "seed", "window", "songs", "sampler"],
)
def test_what_cannot_be_compared_has_another_measure(plan, tables):
    assert validation._measure(plan()) != validation._measure(plan(**tables))


def test_what_changes_nothing_of_it_keeps_the_measure(plan):
    same = plan("other", keep={"validate_every": 3}, train={"batch_size": 2, "learning_rate": 1.0, "epochs": 7})
    assert validation._measure(plan()) == validation._measure(same)


def test_modules_come_back_into_the_mode_each_had_even_after_a_failure():
    inner = nn.Sequential(nn.Dropout(), nn.Linear(1, 1))
    module = nn.Sequential(inner, nn.Dropout())
    inner[0].eval()
    before = [part.training for part in module.modules()]
    with contextlib.suppress(OSError), evaluating(module):
        during = [part.training for part in module.modules()]
        raise OSError("no")
    assert not any(during)
    assert [part.training for part in module.modules()] == before


def test_a_held_out_song_that_cannot_be_read_is_named_before_anything_is_written(plan, tmp_path, tiny_checkpoint):
    own = write_noise(tmp_path / "own", resolve_model(tiny_checkpoint, "base"), frames=[50, 60])
    made = plan(store=own)
    file = own.latents_file(made.held_out[0].stored)
    file.unlink()
    with pytest.raises(StoreError, match=file.name):
        list(train(made))
    assert not made.run.exists()


def test_songs_that_do_not_fit_into_memory_are_read_each_time_and_give_the_same(plan, monkeypatch):
    kept = ready(plan())
    monkeypatch.setattr("sidestep_core.training.setup.main_memory", lambda: 100)
    read = ready(plan())
    assert not read.in_memory
    assert kept.validator.validate(kept.trainer).loss == read.validator.validate(read.trainer).loss


def test_in_bf16_it_is_nearly_the_same_number(plan):
    numbers = []
    for precision in ("fp32", "bf16"):
        setup = make_setup(plan(), make_accelerator("cpu", precision), precision)
        numbers.append(setup.validator.validate(setup.trainer).loss)
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-2)
