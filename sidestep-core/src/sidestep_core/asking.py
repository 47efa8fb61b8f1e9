"""Asking a running job for something from outside: files in its run folder that it notices between steps. Light."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from sidestep_core.errors import SidestepError
from sidestep_core.files import write_atomic
from sidestep_core.runs import RECORD, UNFINISHED, read_record

Wish = Literal["save", "preview", "stop"]
WISHES: tuple[Wish, ...] = get_args(Wish)
FOLDER = "asked"  # there while the run is training; what lies in it dies with the run
_TRAINER = "trainer.json"
_SAME_START = 60.0  # seconds that two readings of a process's start may differ, where the clock was set in between


class Asked:
    """What a run is asked for.

    Args:
        folder: the run's folder of wishes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self) -> frozenset[str]:
        """Return what was asked for since the last time, and forget it; costs one look at a folder."""
        try:
            found = frozenset(WISHES).intersection(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return frozenset()
        for wish in found:
            (self._folder / wish).unlink(missing_ok=True)
        return found


@contextmanager
def listening(run: Path) -> Iterator[Asked]:
    """Let a run be asked for something for as long as it lasts; what an earlier one was asked for is forgotten."""
    import psutil  # type: ignore[import-untyped]

    folder = run / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    me = psutil.Process()
    trainer = {"host": platform.node(), "pid": me.pid, "started": me.create_time()}
    write_atomic(folder / _TRAINER, json.dumps(trainer))
    try:
        yield Asked(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ask(run: Path, wish: Wish) -> None:
    """Ask a running job for something; it is done after the step that is going on.

    Raises:
        SidestepError: there is no such run, or it is not training.
    """
    record = read_record(run)
    if record is None:
        raise SidestepError(f"no run in '{run}': it has no {RECORD}")
    folder = run / FOLDER
    if not _is_training(folder):
        status = record.get("status", UNFINISHED)
        ended = "it ended without a word" if status == UNFINISHED else f"it is {status}"
        raise SidestepError(f"run '{run}' is not training now ({ended})")
    with contextlib.suppress(FileNotFoundError):  # it ended a moment ago
        write_atomic(folder / wish, "")


def _is_training(folder: Path) -> bool:
    """Tell whether the process that listens is still there; one on another machine is believed to be."""
    import psutil

    try:
        trainer = json.loads((folder / _TRAINER).read_bytes())
        pid, started = int(trainer["pid"]), float(trainer["started"])
        if trainer["host"] != platform.node():
            return True
        now: float = psutil.Process(pid).create_time()
        return abs(now - started) < _SAME_START
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return False
