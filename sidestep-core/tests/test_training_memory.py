"""What a run says of memory at its start, and how it ends when there is too little."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sidestep_core.errors import OutOfMemory
from sidestep_core.events import MemoryPlanned, Notice, RunStarted
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import checkpoints, read_run
from sidestep_core.testing.tiny_run import tiny_plan, write_noise
from sidestep_core.training import loop, sharing
from sidestep_core.training.loop import train


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[500, 64], rows=[5])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    return lambda **tables: tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)


@pytest.fixture
def room(monkeypatch):
    """A function that sets how many bytes are free."""
    return lambda count: monkeypatch.setattr(loop, "free_memory", lambda device: count)


def begun(made):
    """Return the events up to the start of a run."""
    events = []
    for event in train(made):
        events.append(event)
        if isinstance(event, RunStarted):
            break
    return events


def test_a_run_begins_with_what_it_will_take(plan):
    made = plan()
    planned = begun(made)[0]
    assert isinstance(planned, MemoryPlanned)
    assert (planned.device, planned.recomputed, planned.layers) == ("cpu", 0, 4)
    assert planned.total == made.memory.total(0)
    assert planned.free > planned.total


@pytest.mark.parametrize(("ratio", "layers"), [(0.5, 2), (1.0, 4)])
def test_settings_decide_how_many_layers_are_recomputed(plan, ratio, layers):
    assert begun(plan(memory={"gradient_checkpointing_ratio": ratio}))[0].recomputed == layers


def test_little_memory_makes_layers_be_recomputed(plan, room):
    made = plan()
    room(int(made.memory.total(3) / 0.9) + 1)
    planned = begun(made)[0]
    assert planned.recomputed == 3
    assert planned.total == made.memory.total(3)


def test_layers_that_wait_are_among_those_recomputed(plan):
    assert begun(plan(memory={"block_swap": 3}))[0].recomputed == 3


def test_a_run_that_may_not_fit_is_warned_of_with_the_cheapest_change(plan, room):
    made = plan(memory={"gradient_checkpointing": False})
    room(int(made.memory.total(4) / 0.9) + 1)
    warning = begun(made)[1]
    assert (type(warning), warning.warning) == (Notice, True)
    assert warning.message.startswith("this run may need 0.5 GB where 0.6 GB are free; it would fit with ")
    assert warning.message.endswith("--gradient-checkpointing --gradient-checkpointing-ratio 1")


def test_a_swap_that_frees_nothing_is_warned_of(plan):
    warning = begun(plan(memory={"block_swap": 1}))[1]
    assert warning.message == "--block-swap frees nothing on cpu: its memory is the main memory"


# Out of memory


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.1 GB)"),
    MemoryError(),
]


def fail_at(monkeypatch, count, error):
    """Let the batch with a number fail."""
    calls = []
    real = sharing.backward

    def backward(*arguments):
        calls.append(1)
        if len(calls) == count:
            raise error
        return real(*arguments)

    monkeypatch.setattr(sharing, "backward", backward)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_too_little_memory_is_one_line_that_names_a_change(plan, monkeypatch, error):
    fail_at(monkeypatch, 1, error)
    made = plan()
    with pytest.raises(OutOfMemory) as caught:
        list(train(made))
    assert str(caught.value) == "cpu ran out of memory; try --gradient-checkpointing-ratio 1"
    assert caught.value.exit_code == 2
    assert read_run(made.run).status == "failed"
    assert sorted(path.name for path in made.run.iterdir()) == [".lock", "run.json"]


def test_what_was_saved_is_named_and_complete(plan, monkeypatch):
    made = plan(run={"save_every_steps": 1}, train={"accumulation": 1, "epochs": 9})
    fail_at(monkeypatch, 4, ERRORS[0])
    with pytest.raises(OutOfMemory, match=r"and go on with --resume-from '.*run/checkpoints/step_3'"):
        list(train(made))
    assert [step for step, _ in checkpoints(made.run)] == [1, 2, 3]
    monkeypatch.undo()
    resumed = plan(run={"resume_from": str(checkpoints(made.run)[-1][1])}, train={"accumulation": 1, "epochs": 9})
    assert list(train(resumed))[-1].reason == "complete"


def test_other_errors_stay_what_they_are(plan, monkeypatch):
    fail_at(monkeypatch, 1, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(train(plan()))


def test_a_model_that_is_too_large_to_load_is_one_line_too(plan, monkeypatch):
    def fail(*_, **__):
        raise ERRORS[0]

    monkeypatch.setattr(loop, "make_setup", fail)
    made = plan()
    with pytest.raises(OutOfMemory, match="cpu ran out of memory; try --gradient-checkpointing-ratio 1"):
        list(train(made))
    assert not made.run.exists()


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from sidestep_core.model.layout import resolve_model
from sidestep_core.testing.tiny_run import tiny_plan, write_noise
from sidestep_core.training.loop import train
torch.set_num_threads(1)
checkpoint, folder = Path(sys.argv[1]), Path(sys.argv[2])
store = write_noise(folder / "store", resolve_model(checkpoint, "base"), frames=[40_000], rows=[5])
plan = tiny_plan(checkpoint, store, folder / "run")
for event in train(plan):  # warms up: whatever is loaded late is loaded
    break
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
try:
    list(train(plan))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_that_the_system_refuses_is_one_line(tmp_path, tiny_checkpoint):
    command = [sys.executable, "-c", LIMITED, str(tiny_checkpoint), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OutOfMemory cpu ran out of memory; try "), done.stdout + done.stderr
