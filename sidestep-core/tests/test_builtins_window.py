"""A window on timesteps: of any sampler, with its density, and a function of the generator alone."""

import pytest
import torch
from sidestep_core.builtins.adaptive import Adaptive
from sidestep_core.builtins.configs import AdaptiveConfig, ContinuousConfig
from sidestep_core.builtins.timesteps import Continuous, Discrete
from sidestep_core.builtins.window import Windowed
from sidestep_core.errors import ConfigError
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import TimestepSamplerContract

CORE = "sidestep_core.builtins.plugin"
CONTINUOUS = Continuous(ContinuousConfig(), BuildContext())
DISCRETE = Discrete(None, BuildContext())
ADAPTIVE = Adaptive(AdaptiveConfig(), BuildContext())


class InAWindow(TimestepSamplerContract):
    plugin = CORE

    @pytest.fixture
    def sampler(self, spec):
        return Windowed(spec.build(self.config, self.context), 0.35, 0.65)


class TestContinuousInAWindow(InAWindow):
    name = "continuous"


class TestDiscreteInAWindow(InAWindow):
    name = "discrete"


class TestAdaptiveInAWindow(InAWindow):
    name = "adaptive"


def draw(sampler, count=20_000, seed=0):
    return sampler.sample(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampler", [CONTINUOUS, DISCRETE, ADAPTIVE], ids=["continuous", "discrete", "adaptive"])
@pytest.mark.parametrize(("low", "high"), [(0.3, 0.9), (0.0, 0.5), (0.4, 1.0), (0.76, 0.82), (0.001, 0.01)])
@pytest.mark.parametrize("count", [1, 3000])
def test_every_timestep_lies_in_the_window(sampler, low, high, count):
    t = draw(Windowed(sampler, low, high), count).double()
    # the bounds are float32 values, too
    assert torch.tensor(low) <= t.min()
    assert t.max() <= torch.tensor(high)
    assert t.min() > 0


@pytest.mark.parametrize("sampler", [CONTINUOUS, DISCRETE, ADAPTIVE], ids=["continuous", "discrete", "adaptive"])
def test_the_whole_range_changes_nothing(sampler):
    assert draw(Windowed(sampler, 0, 1)).equal(draw(sampler))


def test_inside_the_window_the_density_keeps_its_shape():
    inside = draw(CONTINUOUS, 100_000, seed=5)
    inside = inside[(inside >= 0.3) & (inside <= 0.6)]
    windowed = draw(Windowed(CONTINUOUS, 0.3, 0.6), 10_000)
    points = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    assert windowed.quantile(points).tolist() == pytest.approx(inside.quantile(points).tolist(), abs=0.01)


def test_a_discrete_schedule_keeps_its_steps():
    t = draw(Windowed(DISCRETE, 0.4, 0.8))
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == pytest.approx([0.5, 0.6428571428571429, 0.75])
    assert (counts / len(t)).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_window_between_two_steps_is_filled_in_order():
    low, high = 0.76, 0.82
    t = draw(Windowed(DISCRETE, low, high), 500)
    squeezed = [low + (high - low) * step for step in sorted(DISCRETE.schedule)]
    assert t.unique().tolist() == pytest.approx(squeezed)


def test_draws_within_the_window_stay_where_they_are():
    free, windowed = draw(CONTINUOUS, 50), draw(Windowed(CONTINUOUS, 0.4, 0.7), 50)
    inside = (free >= 0.4) & (free <= 0.7)
    assert windowed[inside].equal(free[inside])


def test_the_generator_alone_decides():
    windowed = Windowed(CONTINUOUS, 0.1, 0.2)
    assert draw(windowed, 20, seed=3).equal(draw(windowed, 20, seed=3))
    assert not draw(windowed, 20, seed=3).equal(draw(windowed, 20, seed=4))


def test_what_follows_the_loss_still_does():
    inner = Adaptive(AdaptiveConfig(), BuildContext())
    windowed = Windowed(inner, 0.2, 0.8)
    windowed.observe(torch.tensor([0.45]), torch.tensor([3.0]))
    assert windowed.state_dict() == inner.state_dict() != ADAPTIVE.state_dict()


def test_a_sampler_without_a_state_has_none_in_a_window():
    windowed = Windowed(CONTINUOUS, 0.2, 0.8)
    assert not any(hasattr(windowed, name) for name in ("observe", "state_dict", "load_state_dict"))


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_a_window_without_room_is_refused(low, high):
    with pytest.raises(ConfigError, match="no window of timesteps from"):
        Windowed(CONTINUOUS, low, high)
