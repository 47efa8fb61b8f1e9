"""Stopping by signals, in real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from sidestep_cli.signals import SIGNALS, stop_on_signals

POLITE = """
import sys, time
from sidestep_cli.signals import stop_on_signals
with stop_on_signals("this step is saved") as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
print("saved", flush=True)
sys.exit(stop.exit_code())
"""
STUBBORN = """
import time
from sidestep_cli.signals import stop_on_signals
with stop_on_signals("this step is saved"):
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""
PLAIN = """
import time
from sidestep_cli import main
def wait(args): print("ready", flush=True); time.sleep(60)
main.run = wait
main.main()
"""


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_work_finish(number: int, code: int) -> None:
    process = start(POLITE)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "saved\n")
    assert err == "\nstopping: this step is saved (again to stop at once)\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_the_program(number: int, code: int) -> None:
    process = start(STUBBORN)
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    assert "again to stop at once" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(timeout=30) == code


def test_sigterm_ends_any_command_with_143() -> None:
    process = start(PLAIN)
    process.terminate()
    assert process.wait(timeout=30) == 143


def test_nothing_asked_to_stop() -> None:
    with stop_on_signals("") as stop:
        pass
    assert (stop(), stop.exit_code(), stop.exit_code(1)) == (False, 0, 1)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signals(""):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_thread_leaves_the_handlers_alone() -> None:
    seen: list[bool] = []

    def work() -> None:
        before = [signal.getsignal(number) for number in SIGNALS]
        with stop_on_signals("") as stop:
            seen.append([signal.getsignal(number) for number in SIGNALS] == before and not stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
