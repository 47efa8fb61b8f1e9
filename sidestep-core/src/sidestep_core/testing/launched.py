"""Processes started together for tests, with the environment that a launcher gives them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs


@attrs.frozen
class Ended:
    """How one process ended, and what it said."""

    code: int
    out: str
    err: str


def start_together(
    args: Sequence[str | Path], *, count: int = 2, folder: Path | None = None
) -> list[subprocess.Popen[str]]:
    """Start Python processes that know of each other, by rank.

    Args:
        args: what follows `python`.
        count: how many.
        folder: working folder.
    """
    port = _free_port()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, args)],
            cwd=folder,
            env={**os.environ, **_environment(rank, count, port)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(count)
    ]


def wait_for(processes: Sequence[subprocess.Popen[str]], *, seconds: float = 300) -> list[Ended]:
    """Return how processes ended; if one takes too long, all are killed and the test fails."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Ended(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def run_together(args: Sequence[str | Path], *, count: int = 2, folder: Path | None = None) -> list[Ended]:
    """Start Python processes that know of each other and return how they ended, by rank."""
    return wait_for(start_together(args, count=count, folder=folder))


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
