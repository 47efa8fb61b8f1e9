"""Layers compiled by torch: the same run, up to rounding, and exact when it goes on."""

import pytest
import torch
from sidestep_core.errors import ConfigError
from sidestep_core.events import StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import FINAL
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.loop import train
from sidestep_core.training.modes import evaluating
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

STEPS, HALF = 6, 3
TABLES = {
    "train": {"epochs": 99, "max_steps": STEPS, "accumulation": 2},
    "data": {"val_split": 0.3},
    "keep": {"save_best_after": 0},
}
FILE = f"{FINAL}/small.safetensors"


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    folder = tmp_path_factory.mktemp("tensors")
    return write_noise(folder, resolve_model(tiny_checkpoint, "base"), frames=[50, 64, 71, 33, 80], rows=[5, 9])


@pytest.fixture
def plan_of(tmp_path, tiny_checkpoint, store):
    """Return a function that plans a run of small adapters without dropout, compiled or not."""

    def make(name, *, compiled=True, tables=TABLES, **run):
        train_table = {**tables["train"], "compile": compiled}
        parts = tiny_components(dropout=0.0)
        return tiny_plan(
            tiny_checkpoint,
            store,
            tmp_path / name,
            parts,
            **{**tables, "train": train_table},
            run={"log_every": 1, **run},
        )

    return make


@pytest.fixture
def forgotten():
    """Begin without anything compiled, as a new process does, and leave nothing."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Doubling(nn.Module):
    def forward(self, x):
        return 2 * x


def test_a_module_is_not_compiled_to_be_tried(forgotten):
    compiled = []
    module = Doubling()
    module.compile(backend=lambda graph, inputs: compiled.append(graph) or graph.forward)
    with evaluating(module):
        assert module(torch.ones(1)) == 2
    assert not compiled
    assert module(torch.ones(1)) == 2
    assert len(compiled) == 1


def test_layers_whose_weights_wait_are_not_compiled(plan_of):
    with pytest.raises(ConfigError, match="leave out --block-swap or --compile"):
        plan_of("run", tables={**TABLES, "memory": {"block_swap": 1}})


def test_a_compiler_that_is_not_there_is_one_line(plan_of, forgotten):
    message = r"\Athe layers cannot be compiled here \(.*\); leave out --compile\Z"
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(ConfigError, match=message):
        list(train(plan_of("run")))


def losses(events):
    return [event.loss for event in events if isinstance(event, StepsDone)]


@pytest.mark.slow
def test_a_compiled_run_trains_what_another_trains_and_resumes_to_the_byte(plan_of, forgotten, tmp_path):
    plain = losses(train(plan_of("plain", compiled=False)))
    assert not counters["stats"]
    whole = losses(train(plan_of("whole")))
    assert whole[0] == pytest.approx(plain[0], rel=1e-5)
    assert whole == pytest.approx(plain, rel=1e-3)  # Adam makes much of the rounding of small gradients
    assert counters["stats"]["unique_graphs"]

    asked = iter(range(99))
    list(train(plan_of("parts"), stop=lambda: next(asked) >= HALF))
    torch._dynamo.reset()
    list(train(plan_of("parts", resume_from="latest")))
    assert (tmp_path / "parts" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
