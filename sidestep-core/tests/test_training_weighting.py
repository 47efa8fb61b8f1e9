"""Weights by timestep: the formula, its mean of 1, and what it does to a run."""

import math

import pytest
import torch
from sidestep_core.builtins.configs import ContinuousConfig
from sidestep_core.builtins.timesteps import Continuous, Discrete
from sidestep_core.builtins.window import Windowed
from sidestep_core.configs import TrainConfig
from sidestep_core.errors import ConfigError
from sidestep_core.specs import BuildContext
from sidestep_core.training.weighting import MinSnr, make_weighting, min_snr


class Constant:
    """A sampler that always draws the same."""

    def __init__(self, t):
        self.t = t

    def sample(self, batch_size, *, generator):
        return torch.full((batch_size,), self.t)


def continuous():
    return Continuous(ContinuousConfig(), BuildContext())


def draws(sampler, count=4096):
    return torch.cat([sampler.sample(16, generator=torch.Generator().manual_seed(i)) for i in range(count // 16)])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0, 20.0])
def test_it_is_the_smaller_of_snr_and_gamma_times_t_squared(gamma):
    t = torch.linspace(0.001, 1, 200, dtype=torch.float64)
    snr = ((1 - t) / t) ** 2
    torch.testing.assert_close(min_snr(t, gamma), snr.clamp(max=gamma) * t**2)


def test_it_is_finite_and_zero_at_both_ends():
    assert min_snr(torch.tensor([0.0, 1.0]), 5.0).tolist() == [0.0, 0.0]


def test_it_is_highest_where_snr_is_gamma():
    t = torch.linspace(0, 1, 10001)
    assert t[min_snr(t, 5.0).argmax()].item() == pytest.approx(1 / (1 + math.sqrt(5)), abs=1e-4)


@pytest.mark.parametrize("sampler", [continuous(), Discrete(None, BuildContext()), Windowed(continuous(), 0.6, 0.9)])
def test_the_mean_over_what_is_drawn_is_1(sampler):
    assert MinSnr(5.0, sampler)(draws(sampler)).mean().item() == pytest.approx(1.0, abs=0.03)


def test_a_sampler_with_one_timestep_has_the_weight_1():
    assert MinSnr(5.0, Constant(0.7))(torch.tensor([0.7])).item() == pytest.approx(1.0, rel=1e-6)


def test_the_mean_is_the_same_each_time_it_is_taken():
    t = torch.tensor([0.3, 0.8])
    assert MinSnr(5.0, continuous())(t).equal(MinSnr(5.0, continuous())(t))


def test_a_sampler_of_pure_noise_cannot_be_weighed():
    with pytest.raises(ConfigError, match="gives every timestep that is drawn the weight 0; use none"):
        MinSnr(5.0, Constant(1.0))


def test_the_settings_decide():
    assert make_weighting(TrainConfig(), continuous()) is None
    weighted = make_weighting(TrainConfig(loss_weighting="min_snr", snr_gamma=0.1), continuous())
    low, high = weighted(torch.tensor([0.1, 0.9])).tolist()
    assert high / low == pytest.approx(0.01 / (0.1 * 0.01))
