"""Registers the core's own components. Light: what they need is imported when they are built."""

from __future__ import annotations

import os
from importlib.resources import files
from importlib.resources.abc import Traversable

from sidestep_core.builtins.configs import AdamWConfig, ContinuousConfig, CosineConfig
from sidestep_core.hookspecs import hookimpl
from sidestep_core.specs import LRControllerType, ObserverType, OptimizerType, TimestepSamplerType

sidestep_api = 1


@hookimpl
def sidestep_timestep_samplers() -> list[TimestepSamplerType]:
    """Return the samplers that ACE-Step itself was trained with."""
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
    ]


@hookimpl
def sidestep_lr_controllers() -> list[LRControllerType]:
    """Return the schedules."""
    return [
        LRControllerType(
            name="cosine",
            summary="Falls from the peak along half a cosine",
            config=CosineConfig,
            target="sidestep_core.builtins.schedules:Cosine",
        ),
        LRControllerType(
            name="constant", summary="Stays at the peak", target="sidestep_core.builtins.schedules:Constant"
        ),
    ]


@hookimpl
def sidestep_optimizers() -> list[OptimizerType]:
    """Return the optimizers that come with torch."""
    return [
        OptimizerType(
            name="adamw",
            summary="AdamW in float32, fused where the device has it",
            config=AdamWConfig,
            target="sidestep_core.builtins.optimizers:AdamW",
            bytes_per_parameter=8.0,
        )
    ]


@hookimpl
def sidestep_observers() -> list[ObserverType]:
    """Return the followers of a run."""
    return [
        ObserverType(
            name="progress",
            summary="Appends every step and epoch to progress.jsonl in the run folder",
            target="sidestep_core.builtins.progress:ProgressFile",
        )
    ]


@hookimpl
def sidestep_presets() -> list[Traversable]:
    """Return the presets for common cards and purposes."""
    folder = files(__package__) / "presets"
    return sorted((p for p in folder.iterdir() if p.name.endswith(".toml")), key=lambda p: p.name)


@hookimpl(trylast=True)
def sidestep_secret(service: str) -> str | None:
    """Return the secret from the environment variable that the service's own tools use."""
    variables = {
        "gemini": "GEMINI_API_KEY",
        "openai": "OPENAI_API_KEY",
        "genius": "GENIUS_API_TOKEN",
        "huggingface": "HF_TOKEN",
    }
    return os.environ.get(variables.get(service, "")) or None
