"""How much processor time a command takes that should come back at once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from sidestep_core.bench.settings import StartFigure

TIMES = 3


def measure_start(shown: str, command: Sequence[str]) -> StartFigure:
    """Return what a command takes, the best of a few times; Windows counts seconds of the wall.

    Args:
        shown: the command as it is typed.
        command: the program and its arguments.

    Raises:
        CalledProcessError: it failed.
    """
    return StartFigure(command=shown, milliseconds=1000 * min(_take(command) for _ in range(TIMES)))


def _take(command: Sequence[str]) -> float:
    before = _now()
    subprocess.run(command, check=True, capture_output=True)
    return _now() - before


def _now() -> float:
    if os.name == "nt":
        return time.perf_counter()
    times = os.times()
    return times.children_user + times.children_system
