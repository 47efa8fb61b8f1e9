"""Which steps lead from noise to audio, by the kind of model. Light."""

from __future__ import annotations

import attrs

from sidestep_core.configs import SoundConfig
from sidestep_core.model.folder import ModelFolder


@attrs.frozen(kw_only=True)
class Sampler:
    """A schedule and how far it is guided.

    Attributes:
        steps: evaluations of the flow, with guidance two for each.
        shift: above 1, the steps are closer together where there is more noise.
        guidance: how far to go beyond the condition, away from the empty one; up to 1 is not at all.
    """

    steps: int
    shift: float
    guidance: float

    def timesteps(self) -> list[float]:
        """Return the timesteps [steps + 1] from 1, pure noise, to 0."""
        even = (1 - step / self.steps for step in range(self.steps + 1))
        return [self.shift * t / (1 + (self.shift - 1) * t) for t in even]


# turbo models were trained for eight steps and have the guidance in their weights
SAMPLERS = {"turbo": Sampler(steps=8, shift=3.0, guidance=1.0), "base": Sampler(steps=30, shift=3.0, guidance=7.0)}


def choose_sampler(sound: SoundConfig, model: ModelFolder) -> Sampler:
    """Return the sampler that the settings name, or the model's own, with what the settings change of it."""
    turbo = model.dims.is_turbo or model.variant.endswith("turbo")
    own = ("turbo" if turbo else "base") if sound.sampler == "auto" else sound.sampler
    given = {name: getattr(sound, name) for name in ("steps", "shift", "guidance")}
    return attrs.evolve(SAMPLERS[own], **{name: value for name, value in given.items() if value is not None})
