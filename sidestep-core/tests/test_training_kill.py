"""Runs that are killed at any moment go on from their newest complete checkpoint and end as if nothing had happened.

Run as a script, it is the parent of the runs that are killed: imports take seconds, so it does them once and forks.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sidestep_core.events import CheckpointSaved, RunStarted
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import checkpoints
from sidestep_core.store.index import open_store
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.loop import train

EPOCHS = 60
SETTINGS = {
    "train": {"epochs": EPOCHS, "accumulation": 1, "ema_decay": 0.9},
    "data": {"max_latent_length": 20, "val_split": 0.3},
    "keep": {"save_best_after": 0, "save_best_every_n_steps": 1, "loss_milestones": (2.5, 2.4, 2.3)},
}


def plan(checkpoint, store, run):
    resume = "latest" if checkpoints(run) else None
    saving = {"save_every_steps": 1, "keep_last": 2, "resume_from": resume}
    components = tiny_components(timesteps="adaptive")
    return tiny_plan(checkpoint, store, run, components=components, **SETTINGS, run=saving)


def fork_run(checkpoint, store, run, pipe):
    """Train in a child that writes a line for its start and for each checkpoint."""
    child = os.fork()
    if child:
        return child
    for event in train(plan(checkpoint, store, run)):
        if isinstance(event, RunStarted | CheckpointSaved):
            os.write(pipe, f"{event.step}\n".encode())
    os._exit(0)


def kill_again_and_again(checkpoint, tensors, run, trials):
    """Kill runs at random moments; print where each was resumed and what the newest complete checkpoint was."""
    store, draw = open_store(tensors), random.Random(0)
    for _ in range(trials):
        newest = checkpoints(run)[-1][0] if checkpoints(run) else 0
        reader, writer = os.pipe()
        child = fork_run(checkpoint, store, run, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            began = int(lines.readline())
            lines.readline()  # the first save of this run is done: the next one is on its way
            time.sleep(draw.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(began, newest, os.WTERMSIG(status), flush=True)


def finish(checkpoint, tensors, run):
    """Train to the end in a process of its own."""
    child = fork_run(checkpoint, open_store(tensors), run, os.open(os.devnull, os.O_WRONLY))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def in_parent(*args):
    done = subprocess.run([sys.executable, __file__, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


@pytest.fixture
def tensors(tmp_path, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path / "tensors", model, frames=[30, 24, 26], rows=[5]).path


def kept(run):
    """Return every file of the adapters that a run has in the end."""
    folders = [run / name for name in ("final", "best", "milestones")]
    return {path.relative_to(run): path.read_bytes() for f in folders for path in f.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows can neither fork nor send SIGKILL")
def test_a_run_killed_thirty_times_resumes_each_time_and_ends_in_the_same_bytes(tmp_path, tiny_checkpoint, tensors):
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    trials = in_parent(tiny_checkpoint, tensors, killed, 30)
    assert [began for began, _, _ in trials] == [newest for _, newest, _ in trials]
    assert {signal_ for _, _, signal_ in trials} == {signal.SIGKILL}
    # each of them had to finish a checkpoint, so that the thirty moments are spread over the run
    assert len({began for began, _, _ in trials}) == 30
    assert in_parent(tiny_checkpoint, tensors, killed, 0) == [[0]]
    assert in_parent(tiny_checkpoint, tensors, straight, 0) == [[0]]
    assert kept(killed) == kept(straight)
    assert {path.parts[0] for path in kept(straight)} == {"final", "best", "milestones"}


if __name__ == "__main__":
    root, folder, target = (Path(argument) for argument in sys.argv[1:4])
    if count := int(sys.argv[4]):
        kill_again_and_again(root, folder, target, count)
    else:
        finish(root, folder, target)
