"""Registers the core's own components. Light: what they need is imported when they are built."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from sidestep_core.builtins.configs import (
    AdaptiveConfig,
    ContinuousConfig,
    CosineConfig,
    CosineRestartsConfig,
    CruiseConfig,
    CustomConfig,
    TensorBoardConfig,
    WeightDecayConfig,
)
from sidestep_core.hookspecs import hookimpl
from sidestep_core.keys import find_key
from sidestep_core.specs import LRControllerType, ObserverType, OptimizerType, TimestepSamplerType

sidestep_api = 1


@hookimpl
def sidestep_timestep_samplers() -> list[TimestepSamplerType]:
    """Return the samplers that ACE-Step itself was trained with, and one that follows the loss."""
    return [
        TimestepSamplerType(
            name="continuous",
            summary="Larger of two logit-normal draws, as the base model was trained",
            config=ContinuousConfig,
            target="sidestep_core.builtins.timesteps:Continuous",
        ),
        TimestepSamplerType(
            name="discrete",
            summary="The eight steps of turbo inference (shift 3), each as likely",
            target="sidestep_core.builtins.timesteps:Discrete",
        ),
        TimestepSamplerType(
            name="adaptive",
            summary="Like continuous, with a share of the draws where the loss is high",
            config=AdaptiveConfig,
            target="sidestep_core.builtins.adaptive:Adaptive",
        ),
    ]


@hookimpl
def sidestep_lr_controllers() -> list[LRControllerType]:
    """Return the schedules and cruise control."""
    return [
        LRControllerType(
            name="cosine",
            summary="Falls from the peak along half a cosine",
            config=CosineConfig,
            target="sidestep_core.builtins.schedules:Cosine",
        ),
        LRControllerType(
            name="cosine_restarts",
            summary="Falls along half a cosine several times, each time from the peak",
            config=CosineRestartsConfig,
            target="sidestep_core.builtins.schedules:CosineRestarts",
        ),
        LRControllerType(
            name="linear",
            summary="Falls in a straight line to a hundredth of the peak",
            target="sidestep_core.builtins.schedules:Linear",
        ),
        LRControllerType(
            name="constant", summary="Stays at the peak", target="sidestep_core.builtins.schedules:Constant"
        ),
        LRControllerType(
            name="constant_with_warmup",
            summary="The same as constant; the warm-up is set with --warmup-steps",
            target="sidestep_core.builtins.schedules:Constant",
        ),
        LRControllerType(
            name="custom",
            summary="Follows a formula of your own",
            config=CustomConfig,
            target="sidestep_core.builtins.custom:Custom",
        ),
        LRControllerType(
            name="cruise",
            summary="Lowers the rate as the loss nears a target, and holds it there",
            config=CruiseConfig,
            target="sidestep_core.builtins.cruise:Cruise",
        ),
    ]


@hookimpl
def sidestep_optimizers() -> list[OptimizerType]:
    """Return the optimizers."""
    return [
        OptimizerType(
            name="auto",
            summary="adamw8bit on CUDA, adamw elsewhere",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.auto:Auto",
            # where the device is not known yet, the larger
            bytes_per_parameter=8.0,
        ),
        OptimizerType(
            name="adamw",
            summary="AdamW in float32, fused where the device has it",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.adamw:AdamW",
            bytes_per_parameter=8.0,
        ),
        OptimizerType(
            name="adamw8bit",
            summary="AdamW with 8-bit states, a quarter of the memory; adamw where it cannot run",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.adamw8bit:AdamW8bit",
            # two bytes and two float32 scales for each 256
            bytes_per_parameter=2 + 8 / 256,
        ),
        OptimizerType(
            name="adafactor",
            summary="Adafactor at the given rate, with hardly any state",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.adafactor:Adafactor",
            # a float32 for each row and column; of an adapter's matrices the short side is a rank of 8 or more
            bytes_per_parameter=0.5,
        ),
        OptimizerType(
            name="prodigy",
            summary="Finds its own step size; the learning rate is a factor on it, usually 1",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.prodigy:Prodigy",
            needs=("prodigyopt",),
            extra="sidestep-core[train]",
            bytes_per_parameter=16.0,
            default_learning_rate=1.0,
        ),
        OptimizerType(
            name="lion",
            summary="Steps by the sign of the momentum, half of AdamW's memory; wants a lower rate",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.lion:Lion",
            needs=("lion-pytorch",),
            extra="sidestep-core[train]",
            bytes_per_parameter=4.0,
            default_learning_rate=1e-4,
        ),
        OptimizerType(
            name="schedule_free",
            summary="AdamW that averages its weights instead of a schedule; use the constant one",
            config=WeightDecayConfig,
            target="sidestep_core.builtins.optimizers.schedule_free:ScheduleFreeAdamW",
            needs=("schedulefree",),
            extra="sidestep-core[train]",
            bytes_per_parameter=8.0,
        ),
    ]


@hookimpl
def sidestep_observers() -> list[ObserverType]:
    """Return the followers of a run."""
    return [
        ObserverType(
            name="progress",
            summary="Appends every step and epoch to progress.jsonl in the run folder",
            target="sidestep_core.builtins.progress:ProgressFile",
        ),
        ObserverType(
            name="tensorboard",
            summary="Writes losses, rates and histograms of timesteps for TensorBoard",
            config=TensorBoardConfig,
            target="sidestep_core.builtins.tensorboard:TensorBoard",
            needs=("tensorboard",),
            extra="sidestep-core[tensorboard]",
            gradients_every=lambda config: config.log_heavy_every,
        ),
    ]


@hookimpl
def sidestep_presets() -> list[Traversable]:
    """Return the presets for common cards and purposes."""
    folder = files(__package__) / "presets"
    return sorted((p for p in folder.iterdir() if p.name.endswith(".toml")), key=lambda p: p.name)


@hookimpl(trylast=True)
def sidestep_secret(service: str) -> str | None:
    """Return the secret from the environment variable that the service's own tools use, else from the keyring."""
    return find_key(service)
