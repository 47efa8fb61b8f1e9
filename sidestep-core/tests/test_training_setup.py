"""Making a run: memory decides how many layers are recomputed, and what does not fit is said."""

import attrs
import pytest
import torch
from sidestep_core.device import make_accelerator
from sidestep_core.errors import LoadError
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.quantize import QuantizedLinear
from sidestep_core.requests import Chosen
from sidestep_core.testing.tiny_run import tiny_plan, write_noise
from sidestep_core.training import setup as module
from sidestep_core.training.setup import make_setup


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64], rows=[5])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    return lambda **tables: tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)


def made(plan, precision="fp32", **settings):
    return make_setup(plan, make_accelerator("cpu", precision), precision, **settings)


def test_a_small_run_recomputes_nothing_and_says_nothing(plan):
    ready = made(plan())
    assert (ready.trainer.decoder.checkpointed_layers, ready.notices, ready.in_memory) == (0, (), True)


def test_as_many_layers_are_recomputed_as_was_worked_out(plan):
    assert made(plan(), recomputed=3).trainer.decoder.checkpointed_layers == 3


def test_the_base_is_kept_as_the_memory_settings_want_it(plan):
    decoder = made(plan(memory={"quantize_base": "int8", "block_swap": 2})).trainer.decoder
    assert isinstance(decoder.get_submodule("transformer.layers.3.mlp.up_proj").base, QuantizedLinear)
    assert [index in decoder.swap for index in range(4)] == [True, False, True, False]


def test_a_set_that_does_not_fit_is_read_while_training(plan, monkeypatch):
    monkeypatch.setattr(module, "main_memory", lambda: 100)
    ready = made(plan())
    assert not ready.in_memory
    assert "do not fit into memory" in ready.notices[0].message


def test_the_base_is_frozen_in_the_compute_dtype_under_a_float32_adapter(plan):
    trainer = made(plan(), "bf16").trainer
    assert trainer.decoder.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in trainer.parameters} == {torch.float32}
    assert [p for p in trainer.decoder.parameters() if p.requires_grad] == list(trainer.parameters)


def test_the_adapter_is_in_training_mode(plan):
    assert made(plan()).trainer.decoder.training


def test_the_order_is_that_of_the_plan(plan):
    wanted = plan(train={"batch_size": 2, "accumulation": 3}, data={"dataset_repeats": (4,), "max_latent_length": 20})
    order = made(wanted).order
    assert (order.batch_size, order.accumulation, order.songs[0].visits, order.window) == (2, 3, 4, 20)
    assert order.steps_per_epoch == wanted.steps_per_epoch


def test_a_component_that_cannot_be_built_is_named(plan):
    wanted = plan()
    spec = attrs.evolve(wanted.components.adapter.spec, target="no.such:Thing")
    components = attrs.evolve(wanted.components, adapter=Chosen(spec=spec))
    with pytest.raises(LoadError, match="adapter 'small' cannot be loaded"):
        made(attrs.evolve(wanted, components=components))
