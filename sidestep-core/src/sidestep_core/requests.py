"""What a training run is asked to be: configs and chosen components, before and after names are looked up."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import attrs

from sidestep_core.configs import (
    DataConfig,
    KeepConfig,
    MemoryConfig,
    ModelConfig,
    PreviewConfig,
    RunConfig,
    TargetsConfig,
    TrainConfig,
)
from sidestep_core.specs import (
    AdapterType,
    BuildContext,
    LRControllerType,
    ObserverType,
    OptimizerType,
    Spec,
    TimestepSamplerType,
)

S = TypeVar("S", bound=Spec)
# the fields of a request that are settings of their own, and tables of a preset
FIXED_TABLES = ("model", "data", "train", "targets", "memory", "keep", "run", "preview")


@attrs.frozen(kw_only=True)
class Choice:
    """A component by name, with its settings (None for the defaults)."""

    name: str
    config: Any = None


@attrs.frozen(kw_only=True)
class Chosen(Generic[S]):
    """A component that was found, with its settings.

    Attributes:
        spec: the component.
        config: its settings, None for the defaults.
        called: what it was asked for by: its name, or `plugin:name` where several plugins have one of that name.
    """

    spec: S
    config: Any = None
    called: str = attrs.field()

    @called.default
    def _its_name(self) -> str:
        return self.spec.name

    def build(self, context: BuildContext) -> Any:
        """Import the component and make it; raise `LoadError` if that fails."""
        return self.spec.build(self.config, context)


@attrs.frozen(kw_only=True)
class TrainRequest:
    """Everything that decides a run, by name: what a command line, a preset or a script says."""

    model: ModelConfig = attrs.field(factory=ModelConfig)
    data: DataConfig = attrs.field(factory=DataConfig)
    train: TrainConfig = attrs.field(factory=TrainConfig)
    targets: TargetsConfig = attrs.field(factory=TargetsConfig)
    memory: MemoryConfig = attrs.field(factory=MemoryConfig)
    keep: KeepConfig = attrs.field(factory=KeepConfig)
    run: RunConfig = attrs.field(factory=RunConfig)
    preview: PreviewConfig = attrs.field(factory=PreviewConfig)
    adapter: Choice = Choice(name="lora")
    timesteps: Choice = Choice(name="continuous")
    controllers: tuple[Choice, ...] = (Choice(name="cosine"),)
    optimizer: Choice = Choice(name="auto")
    observers: tuple[Choice, ...] = (Choice(name="progress"),)


@attrs.frozen(kw_only=True)
class Components:
    """The components of a run, found in the registries."""

    adapter: Chosen[AdapterType]
    timesteps: Chosen[TimestepSamplerType]
    controllers: tuple[Chosen[LRControllerType], ...]
    optimizer: Chosen[OptimizerType]
    observers: tuple[Chosen[ObserverType], ...]
