"""The loss by timestep."""

import json
import math

import attrs
import pytest
import torch
from sidestep_core.events import StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.testing.tiny_run import tiny_plan, write_noise
from sidestep_core.training import sharing
from sidestep_core.training.bands import Bands, SampleLoss, band_of
from sidestep_core.training.loop import train
from sidestep_core.training.step import backward
from sidestep_core.training.tracker import LossTracker


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[30, 41, 52], rows=[5])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    return lambda **tables: tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)


@pytest.mark.parametrize(
    ("t", "band"), [(1e-9, 0), (0.05, 0), (0.1, 0), (0.1000001, 1), (0.3, 2), (0.95, 9), (1.0, 9), (0.0, 0)]
)
def test_ten_equal_bands_with_their_upper_ends(t, band):
    assert band_of(t) == band


def test_every_step_of_turbo_has_a_band_of_its_own_or_shares_it():
    steps = [3 * u / (1 + 2 * u) for u in (1 - k / 8 for k in range(8))]
    in_float32 = torch.tensor(steps).tolist()
    assert [band_of(t) for t in in_float32] == [9, 9, 8, 8, 7, 6, 4, 3]


def test_a_band_is_the_mean_over_frames():
    bands = Bands()
    bands.add(SampleLoss(0.42, 30.0, 10))
    bands.add(SampleLoss(0.48, 10.0, 30))
    means, samples = bands.take()
    assert (means[4], samples[4]) == (1.0, 2)


def test_bands_without_samples_have_no_mean():
    bands = Bands()
    bands.add(SampleLoss(0.42, 30.0, 10))
    means, samples = bands.take()
    assert [math.isnan(mean) for mean in means].count(False) == 1
    assert samples == (0, 0, 0, 0, 1, 0, 0, 0, 0, 0)


def test_they_begin_anew_when_they_are_taken():
    bands = Bands()
    bands.add(SampleLoss(0.42, 30.0, 10))
    bands.take()
    assert bands == Bands()


def test_a_tracker_goes_on_with_its_bands_from_its_state():
    before = LossTracker()
    before.add(1.0, 1.0, [SampleLoss(0.1, 0.1, 3), SampleLoss(0.7, 1 / 3, 7)])
    after = LossTracker.from_state(json.loads(json.dumps(before.state_dict())))
    assert after.bands == before.bands != Bands()


def watched(monkeypatch, plan):
    """Train; return the events of its reports and the samples they are about: (t, error, frames)."""
    samples = []

    def watching(trainer, batch):
        part = backward(trainer, batch)
        samples.append(list(zip(part.t.tolist(), part.errors.tolist(), part.frames, strict=True)))
        return part

    monkeypatch.setattr(sharing, "backward", watching)
    return [event for event in train(plan) if isinstance(event, StepsDone)], samples


def test_reports_have_the_loss_of_every_band_since_the_last_one(plan, monkeypatch):
    # weights have no part in it
    settings = {"epochs": 4, "accumulation": 1, "loss_weighting": "min_snr"}
    events, batches = watched(monkeypatch, plan(train=settings, run={"log_every": 6}))
    assert len(events) == 2
    for event, seen in zip(events, (batches[:6], batches[6:]), strict=True):
        samples = [sample for batch in seen for sample in batch]
        assert sum(event.samples) == len(samples) == 6
        for band in range(10):
            inside = [s for s in samples if band / 10 < s[0] <= (band + 1) / 10]
            expected = sum(s[1] for s in inside) / sum(s[2] for s in inside) if inside else math.nan
            assert event.bands[band] == pytest.approx(expected, nan_ok=True)
            assert event.samples[band] == len(inside)


def test_they_add_up_to_the_reported_loss(plan):
    # stretches of the same length: every sample weighs the same
    made = plan(train={"accumulation": 3, "max_steps": 1}, data={"max_latent_length": 30})
    event = next(event for event in train(made) if isinstance(event, StepsDone))
    total = sum(mean * count for mean, count in zip(event.bands, event.samples, strict=True) if count)
    assert total / sum(event.samples) == pytest.approx(event.loss)


def test_a_step_that_did_not_count_is_in_no_band(plan):
    class Bad:
        def sample(self, batch_size, *, generator):
            return torch.full((batch_size,), torch.nan)

    made = plan(train={"max_steps": 1})
    spec = made.components.timesteps.spec

    @attrs.frozen(kw_only=True)
    class Spec(type(spec)):
        def load(self):
            return lambda config, context: Bad()

    chosen = attrs.evolve(made.components.timesteps, spec=Spec(name="bad", summary="Bad", target="no:where"))
    made = attrs.evolve(made, components=attrs.evolve(made.components, timesteps=chosen))
    (event,) = [event for event in train(made) if isinstance(event, StepsDone)]
    assert event.samples == (0,) * 10


def test_an_interrupted_report_is_that_of_the_whole(plan, tmp_path, tiny_checkpoint, store, monkeypatch):
    def reports(made, **given):
        return [(e.step, repr(e.bands), e.samples) for e in train(made, **given) if isinstance(e, StepsDone)]

    run = {"log_every": 4}
    whole = reports(tiny_plan(tiny_checkpoint, store, tmp_path / "whole", run=run))
    batches = []
    monkeypatch.setattr(sharing, "backward", lambda *given: batches.append(given) or backward(*given))
    assert reports(plan(run=run), stop=lambda: len(batches) >= 3) == []
    assert reports(plan(run={**run, "resume_from": "latest"})) == whole
