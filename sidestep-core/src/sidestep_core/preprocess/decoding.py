"""Decoding in parallel processes; what they decode comes back as a file that is mapped, not as bytes through a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np

from sidestep_core.audio.decode import decode
from sidestep_core.audio.loudness import Loudness, Method, normalize
from sidestep_core.audio.workers import in_processes
from sidestep_core.errors import AudioError


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
    """Decode files in parallel and yield each as it is done, in any order; see `in_processes`."""
    return in_processes(decode_to_file, tasks, workers=workers)
