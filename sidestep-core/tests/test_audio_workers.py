"""The pool of processes for work on audio files: what it promises to any kind of work."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from sidestep_core.audio.workers import in_processes
from sidestep_core.errors import AudioError

# a module of its own, since the processes import what they do; where this file lies is no package
WORK = """
import os
from pathlib import Path

import attrs
from sidestep_core.errors import AudioError


@attrs.frozen
class Sizing:
    path: Path
    unit: int = 1


def measure(task):
    match task.path.stem:
        case "refused":
            raise AudioError("no audio")
        case "fault":
            raise ZeroDivisionError("a fault of a library")
        case "deadly":
            os._exit(9)
    return task.path.stat().st_size // task.unit


def where(task):
    return os.getpid()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a module with a kind of task and two kinds of work: the size of a file, and the process that is at it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "pool_work.py").write_text(WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("pool_work")


def files(work: Any, folder: Path, *names: str) -> list[Any]:
    """Write files of 1, 2, 3 ... bytes and return a task for each."""
    for size, name in enumerate(names, 1):
        (folder / name).write_bytes(b"x" * size)
    return [work.Sizing(folder / name) for name in names]


def results(work: Any, tasks: list[Any]) -> dict[str, int | str]:
    """Return what became of each file: its result, or the reason that it was refused for."""
    done = in_processes(work.measure, tasks, workers=2)
    return {task.path.name: str(out) if isinstance(out, AudioError) else out for task, out in done}


def test_each_file_comes_with_its_own_result(work: Any, tmp_path: Path) -> None:
    assert results(work, files(work, tmp_path, "a.wav", "b.wav", "c.wav")) == {"a.wav": 1, "b.wav": 2, "c.wav": 3}


def test_a_task_carries_what_the_work_has_to_know(work: Any, tmp_path: Path) -> None:
    (task,) = files(work, tmp_path, "a.wav")
    task.path.write_bytes(b"x" * 30)
    assert [out for _, out in in_processes(work.measure, [attrs.evolve(task, unit=10)], workers=1)] == [3]


def test_the_task_that_comes_back_is_the_one_that_was_given(work: Any, tmp_path: Path) -> None:
    tasks = files(work, tmp_path, "a.wav", "b.wav")
    given = {id(task) for task in tasks}
    assert {id(task) for task, _ in in_processes(work.measure, tasks, workers=2)} == given


def test_files_of_one_name_in_different_folders_share_nothing(work: Any, tmp_path: Path) -> None:
    for size, name in enumerate(("one", "two"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes(b"x" * size)
    tasks = [work.Sizing(tmp_path / name / "a.wav") for name in ("one", "two")]
    done = {task.path.parent.name: out for task, out in in_processes(work.measure, tasks, workers=2)}
    assert done == {"one": 1, "two": 2}


def test_what_one_file_meets_with_costs_that_file_alone(work: Any, tmp_path: Path) -> None:
    assert results(work, files(work, tmp_path, "a.wav", "refused.wav", "fault.wav", "deadly.wav", "b.wav")) == {
        "a.wav": 1,
        "refused.wav": "no audio",
        "fault.wav": "cannot be decoded: ZeroDivisionError: a fault of a library",
        "deadly.wav": "the process that decodes it dies: out of memory, or a fault in the decoder",
        "b.wav": 5,
    }


def test_several_deadly_files_are_each_found(work: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    tasks = [*files(work, tmp_path, "one/deadly.wav", "a.wav", "two/deadly.wav", "b.wav", "c.wav")]
    done = list(in_processes(work.measure, tasks, workers=1))
    assert sorted(task.path.name for task, out in done if isinstance(out, AudioError)) == ["deadly.wav"] * 2
    assert sorted(out for _, out in done if not isinstance(out, AudioError)) == [2, 4, 5]


def test_the_work_is_done_in_as_many_other_processes_as_were_asked_for(work: Any, tmp_path: Path) -> None:
    tasks = files(work, tmp_path, *(f"{n}.wav" for n in range(6)))
    seen = {out for _, out in in_processes(work.where, tasks, workers=1)}
    assert len(seen) == 1
    assert os.getpid() not in seen


def test_a_pool_has_no_more_processes_than_files(work: Any, tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    done = in_processes(work.measure, files(work, tmp_path, "a.wav"), workers=8)
    next(done)
    started = [child for child in psutil.Process().children(recursive=True) if child not in before]
    assert sum("spawn_main" in " ".join(child.cmdline()) for child in started) <= 1
    done.close()


SCRIPT = """
import sys, time
from pathlib import Path
import pool_work
from sidestep_core.audio.workers import in_processes

if __name__ == "__main__":
    tasks = [pool_work.Sizing(Path(sys.argv[1])) for _ in range(1000)]
    for _, pid in in_processes(pool_work.where, tasks, workers=1):
        print(pid, flush=True)
        time.sleep(1)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "a.wav").touch()
    (tmp_path / "pool_work.py").write_text(WORK)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "a.wav"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs([worker], timeout=60)[1] == []
