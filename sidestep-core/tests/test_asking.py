"""Asking a running job: noticed once, forgotten with the run, refused where nothing listens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core.asking import FOLDER, WISHES, ask, listening
from sidestep_core.errors import SidestepError
from sidestep_core.locks import LOCK, FolderLock, take_lock
from sidestep_core.runs import write_record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_record(tmp_path / "run", {"name": "tiny", "status": "unfinished"})
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def lock(run: Path) -> FolderLock:
    """Hold the run's folder, as training does."""
    taken = take_lock(run)
    assert taken is not None
    return taken


def leave(run: Path) -> Path:
    """Leave what a run that died has in its folder."""
    folder = run / FOLDER
    folder.mkdir()
    return folder


@pytest.mark.parametrize("wish", WISHES)
def test_what_is_asked_is_noticed_once(run: Path, wish: str) -> None:
    with listening(run) as asked:
        assert asked.take() == frozenset()
        ask(run, wish)
        assert asked.take() == {wish}
        assert asked.take() == frozenset()


def test_several_wishes_are_noticed_together_and_the_same_twice_is_one(run: Path) -> None:
    with listening(run) as asked:
        for wish in ("save", "preview", "save"):
            ask(run, wish)
        assert asked.take() == {"save", "preview"}


def test_another_process_can_ask(run: Path) -> None:
    code = f"from pathlib import Path; from sidestep_core.asking import ask; ask(Path({str(run)!r}), 'save')"
    with listening(run) as asked:
        subprocess.run([sys.executable, "-c", code], check=True)
        assert asked.take() == {"save"}


def test_nothing_is_left_when_the_run_ends(run: Path) -> None:
    with listening(run):
        ask(run, "save")
    assert sorted(path.name for path in run.iterdir()) == [LOCK, "run.json"]


def test_nothing_is_left_when_it_ends_badly(run: Path) -> None:
    with pytest.raises(RuntimeError), listening(run):
        raise RuntimeError
    assert not (run / FOLDER).exists()


def test_a_wish_dies_with_the_run_it_was_for(run: Path) -> None:
    for wish in WISHES:
        (leave(run) if not (run / FOLDER).exists() else run / FOLDER).joinpath(wish).touch()
    with listening(run) as asked:
        assert asked.take() == frozenset()


def test_other_files_in_the_folder_are_let_be(run: Path) -> None:
    with listening(run) as asked:
        (run / FOLDER / "notes.txt").touch()
        assert asked.take() == frozenset()
        assert (run / FOLDER / "notes.txt").exists()


def test_a_folder_that_somebody_removed_asks_for_nothing(run: Path) -> None:
    with listening(run) as asked:
        for path in (run / FOLDER).iterdir():
            path.unlink()
        (run / FOLDER).rmdir()
        assert asked.take() == frozenset()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SidestepError, match=r"no run in '.*': it has no run.json"):
        ask(tmp_path, "save")


def test_a_run_that_is_over_is_refused(run: Path) -> None:
    write_record(run, {"name": "tiny", "status": "complete"})
    with pytest.raises(SidestepError, match=r"not training now \(it is complete\)"):
        ask(run, "save")


def test_a_run_whose_process_is_gone_is_refused(run: Path, lock: FolderLock) -> None:
    lock.release()
    folder = leave(run)
    with pytest.raises(SidestepError, match=r"not training now \(it is lost\)"):
        ask(run, "stop")
    assert not (folder / "stop").exists()


def test_a_run_that_does_not_listen_yet_is_refused(run: Path) -> None:
    with pytest.raises(SidestepError, match=r"not training now \(it is running\)"):
        ask(run, "save")
