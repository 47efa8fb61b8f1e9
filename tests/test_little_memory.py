"""Runs on a frozen base in fewer bits, from training to a proven export, with everything installed."""

from __future__ import annotations

import pytest
from sidestep_core.configs import DataConfig, MemoryConfig, ModelConfig, RunConfig, TrainConfig
from sidestep_core.events import RunFinished, StepsDone
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.testing.tiny_run import write_noise
from sidestep_core.toolkit import Toolkit


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    return Toolkit(settings=Settings(tmp_path_factory.mktemp("settings") / "none.toml"))


@pytest.fixture(scope="module")
def tensors(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("tensors"), model, frames=[50, 40], rows=[5]).path


@pytest.fixture
def trained(toolkit, tensors, tiny_checkpoint, tmp_path):
    """A function that trains a few steps and returns the losses and the adapter's folder."""

    def train(adapter, precision="fp32", **memory):
        plan = toolkit.plan(
            TrainRequest(
                model=ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu", precision=precision),
                data=DataConfig(dataset_dir=(tensors,)),
                train=TrainConfig(epochs=12, accumulation=1, warmup_steps=1, learning_rate=1e-2),
                memory=MemoryConfig(**memory),
                run=RunConfig(output_dir=tmp_path / "run", log_every=6),
                adapter=Choice(name=adapter),
                observers=(),
            )
        )
        events = list(toolkit.train(plan))
        losses = [event.loss for event in events if isinstance(event, StepsDone)]
        (finished,) = [event for event in events if isinstance(event, RunFinished)]
        return losses, finished.adapter

    return train


@pytest.mark.parametrize(
    ("target", "adapter", "precision", "memory"),
    [
        ("native", "lora", "fp32", {"quantize_base": "nf4"}),
        ("comfyui", "lora", "bf16", {"quantize_base": "int8", "gradient_checkpointing": True}),
        ("native", "dora", "fp32", {"quantize_base": "nf4", "block_swap": 4}),
        ("comfyui", "dora", "fp32", {"quantize_base": "int8"}),
        ("native", "lokr", "fp32", {"quantize_base": "nf4"}),
        ("comfyui", "loha", "fp32", {"quantize_base": "int8"}),
        ("comfyui", "oft", "fp32", {"quantize_base": "nf4"}),
    ],
)
def test_what_was_learned_in_little_memory_is_exported_with_proof(
    toolkit, trained, tiny_checkpoint, tmp_path, target, adapter, precision, memory
):
    losses, folder = trained(adapter, precision, **memory)
    assert losses[-1] < losses[0]
    model = resolve_model(tiny_checkpoint, "base")
    report = toolkit.export(target, ExportRequest(adapter=folder, output=tmp_path / "out", model=model))
    assert report.modules == 44
    assert report.error < 1e-5
