"""Signals sent to real commands at work: how they end, and that what was done is used by the next run."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from sidestep_core.runs import checkpoints, read_run

RunCli = Callable[..., Any]
Process = subprocess.Popen[str]
Start = Callable[..., Process]
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def until(process: Process, **wanted: object) -> dict[str, Any]:
    """Read events of a process to the first that has these values, and return it."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if wanted.items() <= event.items():
            return event  # type: ignore[no-any-return]
    raise AssertionError(f"it ended without {wanted}: {process.communicate()[1]}")


def rest(process: Process) -> tuple[list[dict[str, Any]], str]:
    """Wait for the end of a process and return its remaining events and what it said."""
    out, err = process.communicate(timeout=120)
    return [json.loads(line) for line in out.splitlines()], err


def listed(run_cli: RunCli) -> dict[str, Any]:
    """Return the only run of the history."""
    (run,) = json.loads(run_cli("history", "--json").out)
    return run  # type: ignore[no-any-return]


@pytest.fixture
def train(tensors: Path, tiny_checkpoint: Path) -> tuple[str, ...]:
    """Return a run that is long enough to be stopped and saves every step."""
    where = ("-c", str(tiny_checkpoint), "-d", str(tensors), "-o", "run", "--device", "cpu", "--precision", "fp32")
    length = ("--max-steps", "5000", "--epochs", "5000", "--log-every", "1", "--save-every-steps", "1")
    return ("train", *where, *length, "--keep-last", "2", "--rank", "2", "--target-modules", "q_proj", "--json")


@pytest.fixture
def preprocess(tmp_path: Path, tiny_checkpoint: Path) -> tuple[str, ...]:
    """Return a command that makes tensors of four songs."""
    (tmp_path / "songs").mkdir()
    time = np.arange(24_000) / 48_000
    for pitch in (100, 200, 300, 400):
        tone = 0.3 * np.sin(2 * np.pi * pitch * time)
        soundfile.write(tmp_path / "songs" / f"{pitch}.wav", np.stack([tone, tone], axis=1), 48_000)
    where = ("-i", "songs", "-o", "t", "-c", str(tiny_checkpoint), "--device", "cpu", "--precision", "fp32")
    return ("preprocess", *where, "--workers", "1", "--tile-seconds", "1", "--json")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_stopped_run_is_saved_and_goes_on(
    start: Start, run_cli: RunCli, train: tuple[str, ...], tmp_path: Path, number: int, code: int
) -> None:
    process = start(*train)
    until(process, event="steps-done")
    process.send_signal(number)
    events, err = rest(process)
    assert (process.returncode, events[-1]["event"], events[-1]["reason"]) == (code, "run-finished", "stopped")
    assert "stopping: this step is finished and the run saved" in err
    assert "Traceback" not in err
    done = read_run(tmp_path / "run")
    assert done is not None
    assert (done.status, done.step) == ("stopped", events[-1]["step"])
    again = run_cli(*train, "--resume-from", "latest", "--max-steps", str(done.step + 2), "--no-strict-resume")
    assert again.code == 0
    first = json.loads(next(line for line in again.out.splitlines() if "run-started" in line))
    assert first["step"] == done.step


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once_and_its_checkpoints_stay(
    start: Start, run_cli: RunCli, train: tuple[str, ...], tmp_path: Path
) -> None:
    process = start(*train)
    until(process, event="checkpoint-saved", step=2)
    # both wait for the process while it is held: the second is there before a step can end
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    events, err = rest(process)
    assert process.returncode == 143
    assert [event for event in events if event["event"] == "run-finished"] == []
    assert "Traceback" not in err
    step = checkpoints(tmp_path / "run")[-1][0]
    again = run_cli(*train, "--resume-from", "latest", "--max-steps", str(step + 1), "--no-strict-resume")
    assert again.code == 0, again.err


@pytest.mark.slow
def test_a_killed_run_is_lost_and_goes_on_from_its_last_checkpoint(
    start: Start, run_cli: RunCli, train: tuple[str, ...], tmp_path: Path
) -> None:
    process = start(*train)
    until(process, event="checkpoint-saved", step=3)
    assert listed(run_cli)["status"] == "running"
    busy = run_cli(*train, "--resume-from", "latest", "--no-strict-resume")
    assert busy.code == 2
    assert f"is going on (process {process.pid} on " in busy.err
    process.kill()
    process.wait(timeout=60)
    assert listed(run_cli)["status"] == "lost"
    step = checkpoints(tmp_path / "run")[-1][0]
    again = run_cli(*train, "--resume-from", "latest", "--max-steps", str(step + 1), "--no-strict-resume")
    assert again.code == 0, again.err
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").is_file()
    done = listed(run_cli)
    assert (done["status"], done["step"], done["adapter"]) == ("max-steps", step + 1, str(Path("run/final")))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_whose_loader_processes_live_on_is_lost_at_once(
    start: Start, run_cli: RunCli, train: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = "import sidestep_core.training.setup as setup; setup.MEMORY_SHARE = 0"
    program = f"{few}; from sidestep_cli.main import main; main()"
    process = start(*train, "--num-workers", "2", program=program)
    until(process, event="checkpoint-saved", step=3)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    for worker in workers:
        worker.suspend()
    process.kill()
    process.wait(timeout=60)
    assert listed(run_cli)["status"] == "lost"
    assert [worker.is_running() for worker in workers] == [True, True]
    for worker in workers:
        worker.kill()


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_adapter(
    start: Start, run_cli: RunCli, train: tuple[str, ...], tmp_path: Path
) -> None:
    short = (*train, "--max-steps", "40", "--epochs", "40")
    assert run_cli(*short).code == 0
    whole = (tmp_path / "run" / "final" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")
    process = start(*short, "--run-name", read_name(whole))
    until(process, event="steps-done", step=2)
    process.send_signal(signal.SIGINT)
    rest(process)
    assert process.returncode == 130
    assert run_cli(*short, "--resume-from", "latest").code == 0
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").read_bytes() == whole


def read_name(adapter: bytes) -> str:
    """Return the name of the run that an adapter file carries."""
    header = json.loads(adapter[8 : 8 + int.from_bytes(adapter[:8], "little")])
    return str(header["__metadata__"]["run"])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_stopped_preprocessing_keeps_finished_songs(
    start: Start, run_cli: RunCli, preprocess: tuple[str, ...], tmp_path: Path, number: int, code: int
) -> None:
    process = start(*preprocess)
    until(process, event="song-finished", stage="audio")
    process.send_signal(number)
    events, err = rest(process)
    assert process.returncode == code
    assert "stopping: the songs at hand are finished and kept" in err
    assert "Traceback" not in err
    assert "next:" not in err
    assert [event for event in events if event["event"] == "preprocess-finished"] == []
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "t" / "latents").iterdir()}
    assert kept
    assert run_cli(*preprocess).code == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "t" / "latents").iterdir()}
    assert len(after) == 4
    assert kept.items() <= after.items()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_stopped_demonstration_says_what_is_there(start: Start, tmp_path: Path, number: int, code: int) -> None:
    process = start("demo", "--output", "shown", "--json")
    until(process, event="song-finished")
    process.send_signal(number)
    _, err = rest(process)
    assert process.returncode == code
    assert "Traceback" not in err
    assert (tmp_path / "shown" / "checkpoints").is_dir()


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_question_can_be_left_by_a_signal(start: Start, tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").touch()
    (tmp_path / "songs" / "a.txt").write_text("caption: a\ncustom_tag: mine\n")
    process = start("tags", "clear", "songs")
    assert process.stderr is not None
    assert process.stderr.read(len("remove all")) == "remove all"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert "mine" in (tmp_path / "songs" / "a.txt").read_text()


def test_a_reader_that_stops_reading_is_no_error_worth_a_traceback(start: Start) -> None:
    process = start("train", "--help")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)
