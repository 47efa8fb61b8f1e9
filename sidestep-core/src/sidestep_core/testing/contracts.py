"""What every plugin and component must keep, as test classes: subclass one, name the plugin and the component.

torch is imported by the checks that need it: whoever writes a provider may not have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from sidestep_core.interfaces import LRController, Progress, TimestepSampler
from sidestep_core.plugin_check import faults, load_alone
from sidestep_core.specs import Spec
from sidestep_core.testing.adapters import AdapterContract
from sidestep_core.testing.component import ComponentContract
from sidestep_core.testing.exporters import ExporterContract
from sidestep_core.testing.providers import ProviderContract

if TYPE_CHECKING:
    import torch

__all__ = [
    "PluginContract",
    "ComponentContract",
    "TimestepSamplerContract",
    "LRControllerContract",
    "AdapterContract",
    "ExporterContract",
    "ProviderContract",
]


class PluginContract:
    """Any plugin: `plugin` is its module."""

    plugin: str

    def test_it_has_no_faults(self) -> None:
        record = load_alone(self.plugin)
        assert (record.status, list(faults(self.plugin, record))) == ("ok", [])


class TimestepSamplerContract(ComponentContract):
    """A timestep sampler."""

    kind = "timestep-sampler"

    @pytest.fixture
    def sampler(self, spec: Spec) -> TimestepSampler:
        """The sampler, built."""
        return spec.build(self.config, self.context)  # type: ignore[no-any-return]

    def test_timesteps_lie_above_zero_and_reach_at_most_one(self, sampler: TimestepSampler) -> None:
        t = sampler.sample(4096, generator=_generator(0))
        assert t.min() > 0
        assert t.max() <= 1

    @pytest.mark.parametrize("batch_size", [1, 5])
    def test_there_is_one_float32_timestep_for_each_sample(self, sampler: TimestepSampler, batch_size: int) -> None:
        t = sampler.sample(batch_size, generator=_generator(0))
        assert (tuple(t.shape), str(t.dtype)) == ((batch_size,), "torch.float32")

    def test_the_generator_alone_decides(self, sampler: TimestepSampler) -> None:
        first, again, other = (sampler.sample(64, generator=_generator(seed)) for seed in (3, 3, 4))
        assert first.equal(again)
        assert len({*first.tolist(), *other.tolist()}) > 1


class LRControllerContract(ComponentContract):
    """A learning-rate controller."""

    kind = "lr-controller"

    @pytest.fixture
    def controller(self, spec: Spec) -> LRController:
        """The controller, built."""
        return spec.build(self.config, self.context)  # type: ignore[no-any-return]

    def test_the_factor_is_finite_and_never_negative(self, controller: LRController) -> None:
        factors = [controller.scale(progress) for progress in _progress()]
        assert all(math.isfinite(factor) and factor >= 0 for factor in factors)

    def test_the_factor_depends_on_nothing_but_progress(self, controller: LRController) -> None:
        forwards = [controller.scale(progress) for progress in _progress()]
        backwards = [controller.scale(progress) for progress in reversed(list(_progress()))]
        assert forwards == backwards[::-1]

    def test_a_run_without_steps_after_the_warm_up_has_a_factor(self, controller: LRController) -> None:
        none_left = Progress(step=0, total_steps=0, steps_per_epoch=1, learning_rate=1e-3)
        assert math.isfinite(controller.scale(none_left))


def _generator(seed: int) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(seed)


def _progress() -> Iterator[Progress]:
    for step in range(101):
        yield Progress(step=step, total_steps=100, steps_per_epoch=10, learning_rate=1e-3)
