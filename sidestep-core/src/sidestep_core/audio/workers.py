"""Work on audio files in parallel processes: a file that cannot be read or kills its process costs that file alone.

Processes are started anew ("spawn") because models may already hold threads and devices here, and they import nothing
but what the work needs.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol, TypeVar

from sidestep_core.errors import AudioError

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What has to be done with one file."""

    @property
    def path(self) -> Path:
        """The file."""


T = TypeVar("T", bound=Task)
R = TypeVar("R")


def in_processes(work: Callable[[T], R], tasks: Sequence[T], *, workers: int) -> Iterator[tuple[T, R | AudioError]]:
    """Work on files in parallel and yield each as it is done, in any order.

    At most twice as many files as there are processes are worked on ahead of the caller. When a process dies, the files
    that were in work are tried again one by one, so that the one at fault is found.

    Args:
        work: function of a module, which the processes import; raises `AudioError` for a file that cannot be used.
        tasks: the files, and what `work` has to know.
        workers: how many processes.
    """
    waiting = deque(tasks)
    while waiting:
        suspects = yield from _together(work, waiting, workers)
        for task in suspects:
            yield task, _alone(work, task)


def _together(
    work: Callable[[T], R], waiting: deque[T], workers: int
) -> Generator[tuple[T, R | AudioError], None, list[T]]:
    """Work until all is done, or until a process dies: then return what was in work."""
    running: dict[Future[R], T] = {}
    pool = _make_pool(min(workers, len(waiting)))
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                future = pool.submit(work, waiting[0])  # stays in line if this finds the pool broken
                running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = _outcome(future, running[future].path)
                yield running.pop(future), outcome
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    return list(running.values())


def _alone(work: Callable[[T], R], task: T) -> R | AudioError:
    with _make_pool(1) as pool:
        try:
            return _outcome(pool.submit(work, task), task.path)
        except BrokenProcessPool:
            return AudioError("the process that decodes it dies: out of memory, or a fault in the decoder")


def _outcome(future: Future[R], path: Path) -> R | AudioError:
    """Return what became of a file; a fault of a decoding library is kept in the log."""
    try:
        return future.result()
    except AudioError as error:
        return error
    except BrokenProcessPool:
        raise
    except Exception as error:
        logger.exception("decoding '%s' failed", path)
        return AudioError(f"cannot be decoded: {type(error).__name__}: {error}")


def _make_pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    # Ctrl-C reaches the whole group: only the parent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, workers of a killed parent would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
