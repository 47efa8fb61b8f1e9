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
from sidestep_core.training.step import backward, update


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64, 71], rows=[5, 9])


@pytest.fixture
def setup(tmp_path, tiny_checkpoint, store):
    def make(**train):
        settings = {"accumulation": 3, "conditioning_dropout": 0.0, **train}
        plan = tiny_plan(tiny_checkpoint, store, tmp_path / "run", train=settings)
        return make_setup(plan, make_accelerator("cpu", "fp32"), "fp32")

    return make


def batches(setup, step=0):
    return [setup.batches[plan] for plan in setup.order.plans(step, step + 1)]


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
    losses = {backward(made.trainer, attrs.evolve(first, plan=plan)).item() for plan in plans}
    assert len(losses) == 3


def test_timesteps_and_noise_are_those_of_their_seeds(setup):
    made = setup()
    made.trainer.decoder.eval()
    batch = batches(made)[1]
    t = made.trainer.sampler.sample(1, generator=generator("cpu", 42, "timestep", 0, 1))
    noise = torch.randn(batch.latents.shape, generator=generator("cpu", 42, "noise", 0, 1))
    errors = flow_matching_loss(made.trainer.decoder, batch, t, noise, torch.float32)
    assert backward(made.trainer, batch).item() == pytest.approx(errors.item() / (50 + 64 + 71), rel=1e-6)


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
    means = [part * sum(frames) / length for part, length in zip(parts, frames, strict=True)]
    weighted = sum(mean * length for mean, length in zip(means, frames, strict=True)) / sum(frames)
    result = update(made.trainer, 0, parts)
    assert result.loss == pytest.approx(weighted.item(), rel=1e-6)
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
    result = update(made.trainer, 0, [torch.tensor(1.0)])
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
    result = update(made.trainer, 1, [torch.tensor(1.0)])
    assert not result.applied
    assert same(before, weights(made))
    assert same(moments, moments_of(made))


def test_bad_gradients_are_gone_after_the_update(setup):
    made = setup()
    backward(made.trainer, batches(made)[0])
    made.trainer.parameters[3].grad[0, 0] = math.nan
    update(made.trainer, 0, [torch.tensor(1.0)])
    assert all(parameter.grad is None for parameter in made.trainer.parameters)


def test_a_loss_that_is_not_finite_is_not_applied(setup):
    made = setup()
    backward(made.trainer, batches(made)[0])
    assert not update(made.trainer, 0, [torch.tensor(math.inf)]).applied


def test_adapters_start_from_the_seed_of_the_run(setup):
    assert same(weights(setup()), weights(setup()))
    assert not same(weights(setup()), weights(setup(seed=43)))


def test_seeds_of_purposes_differ():
    assert len({seed_of(42, purpose, 0, 0) for purpose in ("timestep", "noise", "dropout")}) == 3
