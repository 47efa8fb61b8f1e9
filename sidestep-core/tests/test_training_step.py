"""One step: seeded draws, weights by frames, clipping, and the finite check."""

import math

import attrs
import pytest
import torch
from sidestep_core.device import make_accelerator
from sidestep_core.model.layout import resolve_model
from sidestep_core.testing.tiny_run import tiny_plan, write_noise
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.seeds import generator, seed_of
from sidestep_core.training.setup import make_setup
from sidestep_core.training.step import BatchLoss, backward, update


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64, 71], rows=[5, 9])


@pytest.fixture
def setup(tmp_path, tiny_checkpoint, store):
    def make(accelerator=None, **train):
        settings = {"accumulation": 3, "conditioning_dropout": 0.0, **train}
        plan = tiny_plan(tiny_checkpoint, store, tmp_path / "run", train=settings)
        return make_setup(plan, accelerator or make_accelerator("cpu", "fp32"), "fp32")

    return make


def batches(setup, step=0):
    return [setup.batches[plan] for plan in setup.order.plans(step, step + 1)]


def part(error):
    """Return what a batch of one sample of one frame gives."""
    one = torch.ones(1)
    return BatchLoss(errors=torch.tensor([error]), weights=one, t=one, frames=[1])


def loss_of(part):
    return part.errors.sum().item()


def gradients(setup):
    return [parameter.grad.clone() for parameter in setup.trainer.parameters]


def weights(setup):
    return [parameter.detach().clone() for parameter in setup.trainer.parameters]


def moments_of(setup):
    state = setup.trainer.optimizer.state_dict()["state"]
    return [value.clone() for values in state.values() for value in values.values()]


def same(first, second):
    return all(a.equal(b) for a, b in zip(first, second, strict=True))


def test_nothing_but_the_adapter_has_gradients(setup):
    made = setup()
    backward(made.trainer, batches(made)[0])
    frozen = {*made.trainer.decoder.parameters()} - {*made.trainer.parameters}
    assert all(parameter.grad is None for parameter in frozen)
    assert all(parameter.grad is not None for parameter in made.trainer.parameters)


def test_a_batch_gives_the_same_gradients_whenever_it_comes(setup):
    made = setup()
    first, second = batches(made)[:2]
    backward(made.trainer, first)
    once = gradients(made)
    made.trainer.optimizer.zero_grad()
    backward(made.trainer, second)
    made.trainer.optimizer.zero_grad()
    torch.rand(7)
    backward(made.trainer, first)
    assert same(gradients(made), once)


def test_steps_and_batches_of_a_step_draw_for_themselves(setup):
    made = setup()
    first = batches(made)[0]
    plans = [first.plan, attrs.evolve(first.plan, step=1), attrs.evolve(first.plan, micro=1)]
    losses = {loss_of(backward(made.trainer, attrs.evolve(first, plan=plan))) for plan in plans}
    assert len(losses) == 3


def test_timesteps_and_noise_are_those_of_their_seeds(setup):
    made = setup()
    made.trainer.decoder.eval()
    batch = batches(made)[1]
    t = made.trainer.sampler.sample(1, generator=generator("cpu", 42, "timestep", 0, 1))
    noise = torch.randn(batch.latents.shape, generator=generator("cpu", 42, "noise", 0, 1))
    errors = flow_matching_loss(made.trainer.decoder, batch, t, noise, torch.float32)
    assert loss_of(backward(made.trainer, batch)) == errors.item()


def test_the_adapter_s_dropout_is_seeded(setup):
    made = setup()
    batch = batches(made)[0]
    backward(made.trainer, batch)
    after = torch.rand(3)
    torch.manual_seed(99)
    backward(made.trainer, batch)
    assert torch.rand(3).equal(after)


def test_batches_of_a_step_weigh_by_their_frames(setup):
    made = setup()
    made.trainer.decoder.eval()
    window = batches(made)
    parts = [backward(made.trainer, batch) for batch in window]
    frames = [batch.latents.shape[1] for batch in window]
    means = [loss_of(part) / length for part, length in zip(parts, frames, strict=True)]
    weighted = sum(mean * length for mean, length in zip(means, frames, strict=True)) / sum(frames)
    result = update(made.trainer, 0, parts)
    assert result.loss == pytest.approx(weighted, rel=1e-6)
    assert all(1.5 < mean < 3 for mean in means)


def test_the_last_short_step_of_an_epoch_is_a_mean_as_well(setup):
    made = setup(accumulation=2)
    losses = []
    for step in (0, 1):
        losses.append(update(made.trainer, step, [backward(made.trainer, b) for b in batches(made, step)]).loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_an_update_clips_and_reports_the_norm_before(setup):
    made = setup(max_grad_norm=1e-4)
    backward(made.trainer, batches(made)[0])
    norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients(made)))
    kept = made.trainer.parameters
    result = update(made.trainer, 0, [part(1.0)])
    assert result.grad_norm == pytest.approx(norm, rel=1e-4)
    assert norm > 1e-4
    assert all(parameter.grad is None for parameter in kept)


def test_an_update_changes_the_adapter_at_the_rate_of_its_step(setup):
    made = setup(warmup_steps=0)
    before = weights(made)
    result = update(made.trainer, 0, [backward(made.trainer, batches(made)[0])])
    assert result.applied
    assert result.learning_rate == made.trainer.optimizer.param_groups[0]["lr"] == 1e-2
    assert not same(before, weights(made))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_update_with_bad_gradients_changes_nothing(setup, bad):
    made = setup()
    update(made.trainer, 0, [backward(made.trainer, batches(made)[0])])
    before, moments = weights(made), moments_of(made)
    backward(made.trainer, batches(made, 1)[0])
    made.trainer.parameters[3].grad[0, 0] = bad
    result = update(made.trainer, 1, [part(1.0)])
    assert not result.applied
    assert same(before, weights(made))
    assert same(moments, moments_of(made))


def test_bad_gradients_are_gone_after_the_update(setup):
    made = setup()
    backward(made.trainer, batches(made)[0])
    made.trainer.parameters[3].grad[0, 0] = math.nan
    update(made.trainer, 0, [part(1.0)])
    assert all(parameter.grad is None for parameter in made.trainer.parameters)


def test_a_loss_that_is_not_finite_is_not_applied(setup):
    made = setup()
    backward(made.trainer, batches(made)[0])
    assert not update(made.trainer, 0, [part(math.inf)]).applied


def test_adapters_start_from_the_seed_of_the_run(setup):
    assert same(weights(setup()), weights(setup()))
    assert not same(weights(setup()), weights(setup(seed=43)))


def test_seeds_of_purposes_differ():
    assert len({seed_of(42, purpose, 0, 0) for purpose in ("timestep", "noise", "dropout")}) == 3


class Watching:
    """A sampler that draws one timestep and remembers what it is shown."""

    def __init__(self, t=0.6):
        self.t, self.seen = t, []

    def sample(self, batch_size, *, generator):
        return torch.full((batch_size,), self.t)

    def observe(self, t, losses):
        self.seen.append((t.tolist(), losses.tolist()))


def weighing(batch, weight):
    crops = tuple(attrs.evolve(crop, weight=weight) for crop in batch.plan.crops)
    return attrs.evolve(batch, plan=attrs.evolve(batch.plan, crops=crops))


def test_gradients_have_the_weight_of_their_sample(setup):
    made = setup()
    batch = batches(made)[0]
    backward(made.trainer, batch)
    once = gradients(made)
    made.trainer.optimizer.zero_grad()
    backward(made.trainer, weighing(batch, 0.5))
    assert same(gradients(made), [gradient / 2 for gradient in once])


def test_gradients_have_the_weight_of_their_timestep(setup):
    plain, weighted = setup(), setup(loss_weighting="min_snr")
    batch = batches(plain)[0]
    backward(plain.trainer, batch)
    t = plain.trainer.sampler.sample(1, generator=generator("cpu", 42, "timestep", 0, 0))
    backward(weighted.trainer, batch)
    weight = weighted.trainer.weighting(t).item()
    assert weight != pytest.approx(1.0, abs=0.01)
    for with_it, without in zip(gradients(weighted), gradients(plain), strict=True):
        torch.testing.assert_close(with_it, weight * without)


def test_the_loss_is_told_without_weights_and_with_them(setup):
    made = setup()
    window = batches(made)
    plain = update(made.trainer, 0, [backward(made.trainer, batch) for batch in window])
    made = setup()
    result = update(made.trainer, 0, [backward(made.trainer, weighing(batch, 0.25)) for batch in window])
    assert result.loss == plain.loss == plain.weighted
    assert result.weighted == pytest.approx(plain.loss / 4)


def test_a_window_holds_for_every_sampler(setup):
    made = setup(timestep_min=0.7, timestep_max=0.8)
    t = [backward(made.trainer, batch).t.item() for step in range(4) for batch in batches(made, step)]
    assert 0.7 <= min(t) < max(t) <= 0.8


def test_a_sampler_is_shown_every_sample_of_a_step_at_once(setup):
    made = setup(batch_size=2)
    sampler = Watching()
    trainer = attrs.evolve(made.trainer, sampler=sampler)
    parts = [backward(trainer, weighing(batch, 0.5)) for batch in batches(made)]
    update(trainer, 0, parts)
    errors = [error for part in parts for error in part.errors.tolist()]
    frames = [count for part in parts for count in part.frames]
    ((t, losses),) = sampler.seen
    assert t == pytest.approx([0.6] * 3)
    assert losses == pytest.approx([error / count for error, count in zip(errors, frames, strict=True)])


def test_what_follows_the_run_is_not_shown_a_bad_step(setup):
    made = setup(ema_decay=0.5)
    sampler = Watching()
    trainer = attrs.evolve(made.trainer, sampler=sampler)
    before = [value.clone() for value in trainer.average.values]
    backward(trainer, batches(made)[0])
    trainer.parameters[3].grad[0, 0] = math.nan
    update(trainer, 0, [part(1.0)])
    assert sampler.seen == []
    assert same(before, trainer.average.values)


def test_the_average_takes_in_the_weights_after_the_update(setup):
    made = setup(ema_decay=0.75, warmup_steps=0)
    before = weights(made)
    update(made.trainer, 0, [backward(made.trainer, batches(made)[0])])
    expected = [old.lerp(new, 0.25) for old, new in zip(before, weights(made), strict=True)]
    assert same(expected, made.trainer.average.values)


def test_groups_have_rates_of_their_own(setup):
    made = setup(warmup_steps=0)
    first, second = (list(made.trainer.parameters[i::2]) for i in (0, 1))
    optimizer = torch.optim.SGD([{"params": first, "lr": 0.5}, {"params": second, "lr": 8.0}])
    trainer = attrs.evolve(
        made.trainer, optimizer=made.trainer.accelerator.prepare(optimizer), peaks=[0.5, 8.0], max_norm=1e9
    )
    backward(trainer, batches(made)[0])
    before, slopes = weights(made), gradients(made)
    update(trainer, 0, [part(1.0)])
    expected = [w - (0.5, 8.0)[i % 2] * g for i, (w, g) in enumerate(zip(before, slopes, strict=True))]
    for found, wanted in zip(weights(made), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_padding_changes_no_bit_of_weights_and_average_with_everything_on(setup):
    results = []
    for filling in (0.0, 1e3):
        made = setup(batch_size=3, accumulation=1, ema_decay=0.5, loss_weighting="min_snr", warmup_steps=0)
        (batch,) = batches(made)
        batch.latents[~batch.frames] = filling
        batch.conditioning[~batch.rows] = -filling
        result = update(made.trainer, 0, [backward(made.trainer, weighing(batch, 0.5))])
        results.append((result, weights(made), made.trainer.average.values))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])
    assert same(results[0][2], results[1][2])


@pytest.fixture
def scaled(setup):
    """A function that makes a setup whose gradients are scaled as in fp16, which CPUs do not train in."""

    def make(scale):
        accelerator = make_accelerator("cpu", "fp32")
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        accelerator.native_amp = True
        accelerator.state._mixed_precision = "fp16"
        return setup(accelerator)

    return make


def overflowing(made):
    """Run a batch, and make one of its scaled gradients too large for its type."""
    result = backward(made.trainer, batches(made)[0])
    made.trainer.parameters[3].grad[0, 0] = math.inf
    return result


def test_scaled_gradients_are_clipped_and_applied_without_their_scale(setup, scaled):
    plain, made = setup(), scaled(1024.0)
    before = weights(made)
    results = [update(m.trainer, 0, [backward(m.trainer, batches(m)[0])]) for m in (plain, made)]
    assert results[1].applied
    assert results[1].grad_norm == pytest.approx(results[0].grad_norm, rel=1e-3)
    assert not same(before, weights(made))


def test_gradients_that_were_scaled_too_far_are_no_bad_step(scaled):
    made = scaled(1024.0)
    before = weights(made)
    result = update(made.trainer, 0, [overflowing(made)])
    assert (result.applied, result.overflow) == (False, True)
    assert same(before, weights(made))
    assert made.trainer.accelerator.scaler.get_scale() == 512.0


def test_gradients_that_overflow_without_being_scaled_up_are_a_bad_step(scaled):
    made = scaled(1.0)
    result = update(made.trainer, 0, [overflowing(made)])
    assert (result.applied, result.overflow) == (False, False)


def test_a_loss_that_is_not_finite_is_a_bad_step_at_any_scale(scaled):
    made = scaled(1024.0)
    overflowing(made)
    result = update(made.trainer, 0, [part(math.nan)])
    assert (result.applied, result.overflow) == (False, False)
