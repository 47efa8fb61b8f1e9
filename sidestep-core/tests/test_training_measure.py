"""Measured memory: what is counted, and that the estimate is near it."""

import attrs
import pytest
import torch
from sidestep_core.errors import OutOfMemory
from sidestep_core.fitting import Machine, fit
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Chosen
from sidestep_core.testing.tiny_run import SMALL, tiny_components, tiny_plan, write_noise
from sidestep_core.training import measure as module
from sidestep_core.training.measure import LiveBytes, measure, measure_apart

KB = 1024


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[200, 500], rows=[40])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    return lambda **tables: tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)


def machine(precision="fp32"):
    return Machine(device="cpu", precision=precision, free=2**40)


def compared(made, precision="fp32"):
    """Return the estimate without the overhead, and what two steps took."""
    fits = fit(made, machine(precision))
    return fits.total - fits.memory.overhead, measure(made, machine(precision), fits.recomputed)


# Counting


def test_what_is_there_at_once_is_counted():
    with LiveBytes() as counter:
        first = torch.zeros(256)
        second = first + 1
        del first
        third = second * 2
    assert counter.peak == 2 * KB
    assert third.sum() == 512


def test_views_are_counted_once():
    with LiveBytes() as counter:
        kept = torch.zeros(256).view(16, 16).T[3:]
    assert (counter.peak, kept.shape) == (KB, (13, 16))


def test_what_the_backward_pass_keeps_is_counted():
    weight = torch.ones(256, requires_grad=True)
    with LiveBytes() as counter:
        (weight * 2).square().sum().backward()
    # the product is kept for the square; its gradient and that of the square stand beside it
    assert 3 * KB <= counter.peak < 5 * KB
    assert weight.grad.equal(torch.full((256,), 8.0))


def test_what_was_there_before_is_counted_when_it_is_shown():
    before = torch.zeros(256)
    with LiveBytes() as counter:
        counter.count([before, before[:3]])
        after = before + 1
    assert (counter.peak, len(after)) == (2 * KB, 256)


def test_what_goes_away_is_no_longer_counted():
    with LiveBytes() as counter:
        for _ in range(5):
            torch.zeros(256)
    assert counter.peak == KB


# Steps


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"train": {"batch_size": 2, "accumulation": 1}},
        {"memory": {"gradient_checkpointing_ratio": 0.5}},
        {"memory": {"gradient_checkpointing": True}},
        {"memory": {"quantize_base": "int8"}},
        {"memory": {"block_swap": 3}},
    ],
)
def test_the_estimate_is_near_what_two_steps_take(plan, tables, precision):
    expected, measured = compared(plan(**tables), precision)
    assert expected == pytest.approx(measured, rel=0.1)


def test_a_longer_sample_takes_more(plan):
    _, short = compared(plan(data={"max_latent_length": 100}))
    _, long = compared(plan())
    assert long > 1.5 * short


def test_nothing_is_written(plan):
    made = plan()
    measure(made, machine(), 0)
    assert not made.run.exists()


@pytest.mark.slow
def test_the_measurement_has_a_process_of_its_own(plan):
    spec = attrs.evolve(SMALL, count=None, keeps=None)  # functions without a name cannot be sent
    made = plan(components=attrs.evolve(tiny_components(), adapter=Chosen(spec=spec)))
    assert measure_apart(made, machine(), 0) == measure(made, machine(), 0)


def test_too_little_memory_is_one_line(plan, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(module, "backward", fail)
    with pytest.raises(OutOfMemory, match="cpu ran out of memory; try --gradient-checkpointing-ratio 1"):
        measure(plan(), machine(), 0)
