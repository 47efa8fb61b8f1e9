"""A lock on a folder: held by a process as long as it lives, and given back by the system whatever ends the process.

That a run goes on is told by this and not by a process id: ids are used again, differ between containers, and mean
nothing on another computer that sees the same folder.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import weakref
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"
# somebody who looks whether a lock is held has it for a moment
TRIES, PAUSE = 5, 0.05
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class LockHeld(Exception):
    """Another one holds the lock."""


class FolderLock:
    """A lock that is held until it is released, or no longer referred to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def release(self) -> None:
        """Give the lock back."""
        self._file.close()


def take_lock(folder: Path) -> FolderLock | None:
    """Take the lock of a folder; None where the file system knows no locks.

    Raises:
        LockHeld: another one holds it.
        OSError: the lock file cannot be made.
    """
    # it is never removed: who opened it before would hold a lock that nobody else can see
    file = (folder / LOCK).open("ab")
    for left in reversed(range(TRIES)):
        try:
            _lock(file, shared=False)
        except OSError as error:
            if error.errno in _HELD and left:
                time.sleep(PAUSE)
                continue
            file.close()
            if error.errno in _HELD:
                raise LockHeld from error
            return None
        break
    _keep_from_forks(file)
    return FolderLock(file)


def is_locked(folder: Path) -> bool | None:
    """Tell whether somebody holds the lock of a folder; None where that cannot be told."""
    try:
        file = (folder / LOCK).open("rb")
    except FileNotFoundError:
        return False
    except OSError:
        return None
    with file:
        try:
            _lock(file, shared=True)
        except OSError as error:
            return True if error.errno in _HELD else None
    return False


def _lock(file: BinaryIO, *, shared: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        # of the open file, not of the process: a second look from within the same process finds it held, too
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _keep_from_forks(file: BinaryIO) -> None:
    """Let forked children (loader processes) drop the lock, so that none that lives on keeps it for a dead run."""
    if sys.platform == "win32":
        return
    reference = weakref.ref(file)

    def drop() -> None:
        if (held := reference()) is not None:
            held.close()

    os.register_at_fork(after_in_child=drop)
