"""The adaptive sampler: it goes where the loss is, at any batch size, and goes on after a resume."""

import json
from types import SimpleNamespace

import pytest
import torch
from sidestep_core.builtins.adaptive import Adaptive
from sidestep_core.builtins.configs import AdaptiveConfig
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import TimestepSamplerContract


class TestAdaptive(TimestepSamplerContract):
    plugin, name = "sidestep_core.builtins.plugin", "adaptive"


class TestOnlyAdaptive(TimestepSamplerContract):
    plugin, name = "sidestep_core.builtins.plugin", "adaptive"
    config = AdaptiveConfig(adaptive_timestep_ratio=1.0)


def adaptive(ratio=0.3, dims=None):
    return Adaptive(AdaptiveConfig(adaptive_timestep_ratio=ratio), BuildContext(model=dims))


def draw(sampler, count=20_000, seed=0, batch=None):
    generator = torch.Generator().manual_seed(seed)
    if batch is None:
        return sampler.sample(count, generator=generator)
    return torch.cat([sampler.sample(batch, generator=generator) for _ in range(count // batch)])


def shares(t):
    """Return the share of draws in each tenth."""
    return torch.histc(t, 10, 0, 1) / len(t)


def loss_at(sampler, t, loss, times=1000):
    sampler.observe(torch.full((times,), t), torch.full((times,), loss))
    return sampler


@pytest.mark.parametrize("batch", [1, 4])
def test_it_works_with_any_batch_size(batch):
    sampler = adaptive(ratio=1.0)
    for middle in [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.95]:
        loss_at(sampler, middle, 0.0)
    assert shares(draw(sampler, 4000, batch=batch))[8] > 0.99


def test_draws_follow_the_averaged_losses():
    sampler = adaptive(ratio=1.0)
    sampler.load_state_dict({"losses": [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]})
    assert shares(draw(sampler))[[0, 9]].tolist() == pytest.approx([0.25, 0.75], abs=0.01)


def test_the_ratio_is_the_share_of_draws_that_adapt():
    sampler = adaptive(ratio=0.3)
    sampler.load_state_dict({"losses": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]})
    # next to no usual draw is that small
    assert shares(draw(sampler))[0] == pytest.approx(0.3, abs=0.01)


def test_a_ratio_of_zero_is_the_usual_distribution():
    t = draw(adaptive(ratio=0.0))
    assert (t.mean().item(), t.std().item()) == pytest.approx((0.5347, 0.1790), abs=0.005)


def test_the_usual_draws_are_those_of_the_checkpoint():
    dims = SimpleNamespace(timestep_mu=4.0, timestep_sigma=0.1)
    assert draw(adaptive(ratio=0.0, dims=dims)).mean() > 0.95


def test_inside_a_bin_draws_are_even():
    sampler = adaptive(ratio=1.0)
    sampler.load_state_dict({"losses": [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]})
    assert torch.histc(draw(sampler), 5, 0.4, 0.5).div(20_000).tolist() == pytest.approx([0.2] * 5, abs=0.01)


@pytest.mark.parametrize(("t", "index"), [(1.0, 9), (0.95, 9), (0.9, 8), (0.05, 0), (1e-9, 0)])
def test_a_loss_belongs_to_the_bin_its_timestep_is_drawn_from(t, index):
    sampler = loss_at(adaptive(), t, 5.0, times=1)
    assert [k for k, loss in enumerate(sampler.losses) if loss != 1.0] == [index]


def test_the_average_keeps_99_per_cent_of_itself():
    assert loss_at(adaptive(), 0.55, 0.0, times=2).losses[5] == pytest.approx(0.99**2)


def test_losses_of_zero_leave_every_bin_within_reach():
    sampler = adaptive(ratio=1.0)
    sampler.load_state_dict({"losses": [0.0] * 10})
    assert shares(draw(sampler)).min() > 0.05


def test_a_resumed_run_draws_the_same():
    straight = loss_at(adaptive(), 0.31, 0.123456789, times=37)
    resumed = adaptive()
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    assert draw(resumed).equal(draw(straight))


def test_a_state_does_not_change_with_its_sampler():
    sampler = adaptive()
    state = sampler.state_dict()
    loss_at(sampler, 0.5, 9.0)
    assert state == adaptive().state_dict()
