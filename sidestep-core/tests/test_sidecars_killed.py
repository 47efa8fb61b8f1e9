"""A process that is killed while it writes sidecars leaves each of them whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core.files import is_temporary
from sidestep_core.sidecars import Sidecar, parse, read_sidecar, write_sidecar

SONGS = 200
LYRICS = "la la la\n" * 2000
WRITER = """
import sys
from pathlib import Path
from sidestep_core.sidecars import Sidecar, write_sidecar

folder, songs, lyrics = Path(sys.argv[1]), int(sys.argv[2]), "la la la\\n" * 2000
for version in range(1, 1000):
    for number in range(songs):
        write_sidecar(folder / f"{number}.wav", Sidecar(caption=f"version {version}", lyrics=lyrics))
        print(version, number, flush=True)
"""


def kill_after(folder: Path, lines: int) -> tuple[int, int]:
    """Let a process write sidecars, kill it a moment after some of them, and return what it said last."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, folder, str(SONGS)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(lines):
        said = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    said = [said, *process.stdout.read().splitlines()][-1]  # what was still in the pipe is written as well
    process.wait()
    version, number = said.split()
    return int(version), int(number)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("seed", range(3))
def test_every_sidecar_is_whole_after_kill_9(tmp_path: Path, seed: int) -> None:
    for number in range(SONGS):
        write_sidecar(tmp_path / f"{number}.wav", Sidecar(caption="version 0", lyrics=LYRICS))
    version, last = kill_after(tmp_path, random.Random(seed).randint(1, 2 * SONGS))
    for number in range(SONGS):
        sidecar = read_sidecar(tmp_path / f"{number}.wav")
        assert sidecar is not None
        assert sidecar.lyrics == LYRICS.strip()
        # what was told as written is; one more may have been in work
        assert version - (number > last) <= int(sidecar.caption.removeprefix("version ")) <= version + 1
    for backup in tmp_path.glob("*.bak"):
        assert parse(backup.read_text("utf-8")).lyrics == LYRICS.strip()
    left = [path for path in tmp_path.iterdir() if path.suffix not in (".txt", ".bak")]
    assert len(left) <= 1
    assert all(is_temporary(path) for path in left)
