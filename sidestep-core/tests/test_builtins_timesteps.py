"""Timestep samplers: known draws, and where their settings come from."""

from types import SimpleNamespace

import pytest
import torch
from sidestep_core.builtins.configs import ContinuousConfig
from sidestep_core.builtins.timesteps import Continuous, Discrete
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import TimestepSamplerContract

CONTINUOUS_1234 = [
    0.4124443829059601,
    0.8555073738098145,
    0.42608004808425903,
    0.4543123245239258,
    0.36472824215888977,
    0.5258795619010925,
    0.457842081785202,
    0.6188900470733643,
]
DISCRETE_1234 = [
    0.30000001192092896,
    0.8333333134651184,
    0.5,
    0.6428571343421936,
    0.75,
    0.75,
    1.0,
    0.9545454382896423,
]
SCHEDULE = [
    1.0,
    0.9545454545454546,
    0.9,
    0.8333333333333334,
    0.75,
    0.6428571428571429,
    0.5,
    0.3,
]


class TestContinuous(TimestepSamplerContract):
    plugin, name = "sidestep_core.builtins.plugin", "continuous"


class TestDiscrete(TimestepSamplerContract):
    plugin, name = "sidestep_core.builtins.plugin", "discrete"


def continuous(dims=None, **settings):
    return Continuous(ContinuousConfig(**settings), BuildContext(model=dims))


def seeded(seed=1234):
    return torch.Generator().manual_seed(seed)


def test_continuous_draws_are_those_of_the_base_model():
    assert continuous().sample(8, generator=seeded()).tolist() == pytest.approx(CONTINUOUS_1234, abs=1e-7)


def test_discrete_draws_are_those_of_the_turbo_schedule():
    assert Discrete(None, BuildContext()).sample(8, generator=seeded()).tolist() == pytest.approx(DISCRETE_1234)


def test_the_discrete_schedule_is_eight_steps_shifted_by_three():
    assert Discrete(None, BuildContext()).schedule == pytest.approx(SCHEDULE)


def test_continuous_timesteps_lean_to_noise():
    t = continuous().sample(100_000, generator=seeded())
    assert t.mean() == pytest.approx(0.5347, abs=0.003)
    assert t.std() == pytest.approx(0.1790, abs=0.003)


def test_mu_and_sigma_come_from_the_checkpoint():
    sampler = continuous(SimpleNamespace(timestep_mu=0.3, timestep_sigma=0.7))
    assert (sampler.mu, sampler.sigma) == (0.3, 0.7)


def test_settings_win_over_the_checkpoint():
    dims = SimpleNamespace(timestep_mu=0.3, timestep_sigma=0.7)
    sampler = continuous(dims, timestep_mu=0.0, timestep_sigma=2.0)
    assert (sampler.mu, sampler.sigma) == (0.0, 2.0)


def test_without_a_checkpoint_the_published_values_hold():
    assert (continuous().mu, continuous().sigma) == (-0.4, 1.0)
