"""`sidestep ask` and the signals that mean the same, with runs that listen and runs that do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_cli.signals import ask_on_signals
from sidestep_core.asking import listening
from sidestep_core.locks import FolderLock, take_lock
from sidestep_core.runs import write_record

RunCli = Callable[..., Any]
SIGNALS = [(signal.SIGUSR1, "save"), (signal.SIGUSR2, "preview")]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has begun, where 'sidestep history' looks."""
    folder = tmp_path / "output" / "mine"
    write_record(folder, {"name": "my_lora", "status": "unfinished"})
    return folder


@pytest.fixture(autouse=True)
def lock(run: Path) -> FolderLock | None:
    """Hold the run's folder, as training does."""
    return take_lock(run)


@pytest.mark.parametrize(
    ("wish", "promise"), [("save", "saves a checkpoint"), ("preview", "makes a preview"), ("stop", "saves and stops")]
)
def test_a_run_is_asked_by_its_folder(run_cli: RunCli, run: Path, wish: str, promise: str) -> None:
    with listening(run) as asked:
        result = run_cli("ask", "output/mine", wish)
        assert (result.code, result.out) == (0, "")
        assert result.err == f"asked: output/mine {promise} after this step\n"
        assert asked.take() == {wish}


def test_a_run_is_asked_by_its_name(run_cli: RunCli, run: Path) -> None:
    with listening(run) as asked:
        assert run_cli("ask", "my_lora", "save").code == 0
        assert asked.take() == {"save"}


def test_a_run_that_is_not_training_is_refused(run_cli: RunCli, run: Path) -> None:
    write_record(run, {"name": "my_lora", "status": "complete"})
    result = run_cli("ask", "my_lora", "save")
    assert result.code == 2
    assert result.err == "error: run 'output/mine' is not training now (it is complete)\n"


def test_a_run_that_does_not_exist_is_refused(run_cli: RunCli, run: Path) -> None:
    result = run_cli("ask", "other", "save")
    assert result.code == 2
    assert result.err == "error: no run 'other'; give its folder, or a name that 'sidestep history' lists\n"


def test_a_name_that_two_runs_have_is_refused(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    write_record(tmp_path / "output" / "yours", {"name": "my_lora"})
    result = run_cli("ask", "my_lora", "save")
    assert result.code == 2
    assert "'my_lora' may be any of 2 runs; give the folder of one: " in result.err
    assert "output/mine" in result.err


def test_only_what_a_run_can_do_can_be_asked(run_cli: RunCli, run: Path) -> None:
    result = run_cli("ask", "my_lora", "sing")
    assert result.code == 2
    assert "'save', 'preview', 'stop'" in result.err


# Signals


@pytest.mark.parametrize(("number", "wish"), SIGNALS)
def test_a_signal_asks_the_run_of_this_process(run: Path, number: int, wish: str) -> None:
    with listening(run) as asked, ask_on_signals(run):
        os.kill(os.getpid(), number)
        assert asked.take() == {wish}


def test_a_signal_before_the_run_listens_is_answered(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ask_on_signals(run):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert "is not training now" in capsys.readouterr().err


def test_handlers_are_put_back(run: Path) -> None:
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    with ask_on_signals(run):
        assert [signal.getsignal(number) for number, _ in SIGNALS] != before
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before


def test_a_thread_leaves_the_handlers_alone(run: Path) -> None:
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    seen: list[bool] = []

    def work() -> None:
        with ask_on_signals(run):
            seen.append([signal.getsignal(number) for number, _ in SIGNALS] == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


# A real run


@pytest.mark.slow
def test_a_real_run_saves_previews_and_stops_when_it_is_asked(
    start: Callable[..., subprocess.Popen[str]], run_cli: RunCli, tensors: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    where = ("-c", tiny_checkpoint, "-d", tensors, "-o", "output/long", "-n", "long", "--device", "cpu")
    size = ("--precision", "fp32", "--rank", "2", "--target-modules", "q_proj", "--max-steps", "50000")
    sound = ("--preview-seconds", "1", "--preview-steps", "1", "--log-every", "1", "--epochs", "50000", "--json")
    process = start("train", *where, *size, *sound)
    assert process.stdout is not None

    def until(name: str) -> dict[str, Any]:
        assert process.stdout is not None
        for line in process.stdout:
            if f'"event": "{name}"' in line:
                return json.loads(line)  # type: ignore[no-any-return]
        raise AssertionError(process.communicate()[1])

    until("steps-done")
    process.send_signal(signal.SIGUSR1)
    until("checkpoint-saved")
    assert run_cli("ask", "long", "preview").code == 0
    made = until("preview-made")
    assert all(Path(tmp_path / path).is_file() for path in made["paths"])
    process.send_signal(signal.SIGUSR2)
    until("preview-made")
    assert run_cli("ask", tmp_path / "output" / "long", "stop").code == 0
    assert until("run-finished")["reason"] == "stopped"
    assert process.wait(timeout=60) == 0
    again = run_cli("ask", "long", "save")
    assert "is not training now (it is stopped)" in again.err
