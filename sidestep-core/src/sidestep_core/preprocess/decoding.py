"""Decoding in parallel processes: bounded in memory, and a file that kills its process costs that file alone.

Processes are started anew ("spawn") because models may already hold threads and devices here, and they import nothing
of torch. What they decode comes back as a file that is mapped, not as bytes through a pipe.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import attrs
import numpy as np

from sidestep_core.audio.decode import decode
from sidestep_core.audio.loudness import Loudness, Method, normalize
from sidestep_core.errors import AudioError

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Decoding:
    """A file to decode.

    Attributes:
        path: the file.
        scratch: where its samples go.
        max_seconds: how much of it; 0 for all.
        method: loudness treatment.
        target_db: for "peak".
        target_lufs: for "lufs".
    """

    path: Path
    scratch: Path
    max_seconds: float
    method: Method
    target_db: float
    target_lufs: float


def decode_to_file(task: Decoding) -> Loudness:
    """Decode one file to float32 [2, samples] at 48 kHz in its scratch file; return what was done to its level.

    Raises:
        AudioError: the file cannot be used.
    """
    audio = decode(task.path, max_seconds=task.max_seconds)
    audio, loudness = normalize(audio, task.method, target_db=task.target_db, target_lufs=task.target_lufs)
    np.save(task.scratch, audio)
    return loudness


def decode_all(tasks: Sequence[Decoding], *, workers: int) -> Iterator[tuple[Decoding, Loudness | AudioError]]:
    """Decode files in parallel and yield each as it is done, in any order.

    At most twice as many files as there are processes are decoded ahead of the caller. When a process dies, the files
    that were being decoded are tried again one by one, so that the one at fault is found.
    """
    waiting = deque(tasks)
    while waiting:
        suspects = yield from _decode_together(waiting, workers)
        for task in suspects:
            yield task, _decode_alone(task)


def _decode_together(
    waiting: deque[Decoding], workers: int
) -> Generator[tuple[Decoding, Loudness | AudioError], None, list[Decoding]]:
    """Decode until all is done, or until a process dies: then return what was being decoded."""
    running: dict[Future[Loudness], Decoding] = {}
    pool = _make_pool(min(workers, len(waiting)))
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                future = pool.submit(decode_to_file, waiting[0])  # stays in line if this finds the pool broken
                running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = _outcome(future, running[future].path)
                yield running.pop(future), outcome
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    return list(running.values())


def _decode_alone(task: Decoding) -> Loudness | AudioError:
    with _make_pool(1) as pool:
        try:
            return _outcome(pool.submit(decode_to_file, task), task.path)
        except BrokenProcessPool:
            return AudioError("the process that decodes it dies: out of memory, or a fault in the decoder")


def _outcome(future: Future[Loudness], path: Path) -> Loudness | AudioError:
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
