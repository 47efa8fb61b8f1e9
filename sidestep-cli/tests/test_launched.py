"""Commands that a launcher starts several times: one speaks, all end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sidestep_cli import main as module
from sidestep_core.runs import read_run

Launch = Callable[..., subprocess.Popen[str]]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
ACCELERATE = (
    *("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "--module"),
)
END = 120


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Return a function that has a launcher start `sidestep` twice; what is left running is ended."""
    started: list[subprocess.Popen[str]] = []

    def begin(launcher: tuple[str, ...], *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *launcher, "sidestep_cli", *args]
        environment = {**os.environ, "SIDESTEP_CONFIG_DIR": str(tmp_path / "config"), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=pipe, stderr=pipe))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def train(tensors: Path, tiny_checkpoint: Path) -> tuple[str, ...]:
    """Return a run on the processor."""
    where = ("-c", str(tiny_checkpoint), "-d", str(tensors), "-o", "run", "--device", "cpu")
    return ("train", *where, "--rank", "2", "--target-modules", "q_proj", "--log-every", "1")


def call_main(monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, list[float]]:
    """Be the second process; return the exit code and how long it waited."""
    waited: list[float] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(sys, "argv", ["sidestep", *args])
    monkeypatch.setattr(module.time, "sleep", waited.append)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            module.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(ended.value.code, int)
    return ended.value.code, waited


def test_the_second_process_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call_main(monkeypatch, "--help") == (0, [])
    assert capsys.readouterr() == ("", "")


def test_the_second_process_speaks_if_the_first_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, waited = call_main(monkeypatch, "trian")
    out, err = capsys.readouterr()
    assert (code, waited) == (2, [module.PATIENCE])
    assert (out, err.splitlines()[0]) == ("", "error: No such command 'trian'.")


def errors(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("error:")]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_launched_run_is_told_once(
    launch: Launch, train: tuple[str, ...], launcher: tuple[str, ...], tmp_path: Path
) -> None:
    process = launch(launcher, *train, "--max-steps", "2")
    out, err = process.communicate(timeout=END)
    assert process.returncode == 0, err
    assert [line.split(" in ")[0] for line in out.splitlines()] == ["done after 2 steps", "adapter"]
    assert err.count("shared by 2 processes") == err.count("saved step 2") == 1
    assert {"checkpoints", "final"} <= {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--epochs", "0"), "error: --epochs: must be at least 1, got 0"),
        (("-d", "nowhere", "-o", "run"), "error: no tensor folder at 'nowhere'; make one with 'sidestep preprocess'"),
    ],
    ids=["usage", "input"],
)
def test_an_error_of_all_is_told_once(launch: Launch, tiny_checkpoint: Path, args: tuple[str, ...], line: str) -> None:
    process = launch(TORCHRUN, "train", "-c", str(tiny_checkpoint), *args)
    _, err = process.communicate(timeout=END)
    assert errors(err) == [line]
    assert process.returncode


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to handle")
def test_a_launcher_that_is_ended_lets_the_run_save_itself(
    launch: Launch, train: tuple[str, ...], tmp_path: Path
) -> None:
    process = launch(TORCHRUN, *train, "--max-steps", "5000", "--epochs", "5000", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "steps-done":
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=END)
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["reason"]) == ("run-finished", "stopped"), err
    run = read_run(tmp_path / "run")
    assert run is not None
    assert (run.status, run.step) == ("stopped", last["step"])
    assert err.count("stopping: this step is finished and the run saved") == 1
