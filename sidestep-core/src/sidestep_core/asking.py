"""Asking a running job for something from outside: files in its run folder that it notices between steps. Light."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from sidestep_core.errors import SidestepError
from sidestep_core.files import write_atomic
from sidestep_core.locks import is_locked
from sidestep_core.runs import RECORD, read_record, status_of

Wish = Literal["save", "preview", "stop"]
WISHES: tuple[Wish, ...] = get_args(Wish)
FOLDER = "asked"  # there while the run is training; what lies in it dies with the run


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
    folder = run / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
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
    # where the file system has no locks the folder has to do
    if is_locked(run) is False or not folder.is_dir():
        raise SidestepError(f"run '{run}' is not training now (it is {status_of(run, record)})")
    with contextlib.suppress(FileNotFoundError):  # it ended a moment ago
        write_atomic(folder / wish, "")
