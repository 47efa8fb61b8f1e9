"""Validation leaves no trace in the run, whatever the adapter type and the libraries behind it."""

from __future__ import annotations

import attrs
import pytest
from sidestep_core.configs import DataConfig, KeepConfig, ModelConfig, RunConfig, TrainConfig
from sidestep_core.events import BestSaved, Validated
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.testing.tiny_run import write_noise
from sidestep_core.toolkit import Toolkit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    return Toolkit(settings=Settings(tmp_path_factory.mktemp("settings") / "none.toml"))


@pytest.fixture(scope="module")
def tensors(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("tensors"), model, frames=[50, 64, 71, 33, 80], rows=[5, 9]).path


@pytest.mark.parametrize("adapter", ["lora", "dora", "lokr", "loha", "oft"])
def test_every_type_trains_to_the_same_bytes_with_and_without_it(toolkit, tensors, tiny_checkpoint, tmp_path, adapter):
    def run(name, **changes):
        plan = toolkit.plan(
            TrainRequest(
                model=ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu"),
                data=DataConfig(dataset_dir=(tensors,), val_split=0.4),
                train=TrainConfig(epochs=3, accumulation=2, learning_rate=1e-3),
                keep=KeepConfig(save_best_after=0, save_best_every_n_steps=1),
                run=RunConfig(output_dir=tmp_path / name, run_name="same"),
                adapter=Choice(name=adapter),
                observers=(),
            )
        )
        events = list(toolkit.train(attrs.evolve(plan, **changes)))
        return events, {path.name: path.read_bytes() for path in (tmp_path / name / "final").iterdir()}

    events, judged = run("judged")
    _, alone = run("alone", held_out=())
    assert len([event for event in events if isinstance(event, Validated)]) == 6
    assert any(isinstance(event, BestSaved) for event in events)
    assert judged == alone
