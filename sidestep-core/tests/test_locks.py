"""The lock on a folder: who sees it, and what ends it."""

import errno
import gc
import os
import signal
import subprocess
import sys

import pytest
from sidestep_core import locks
from sidestep_core.locks import LOCK, LockHeld, is_locked, take_lock

HOLDER = """
import sys, time
from pathlib import Path
from sidestep_core.locks import take_lock
lock = take_lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_nobody_locked_is_free(tmp_path):
    assert is_locked(tmp_path) is False
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_seen_from_within_its_own_process(tmp_path):
    lock = take_lock(tmp_path)
    assert is_locked(tmp_path) is True
    lock.release()
    assert is_locked(tmp_path) is False


def test_looking_does_not_take_the_lock_away(tmp_path):
    lock = take_lock(tmp_path)
    assert [is_locked(tmp_path) for _ in range(3)] == [True] * 3
    lock.release()


def test_a_lock_that_is_held_cannot_be_taken(tmp_path):
    lock = take_lock(tmp_path)
    with pytest.raises(LockHeld):
        take_lock(tmp_path)
    lock.release()
    take_lock(tmp_path).release()


def test_a_lock_that_nobody_refers_to_is_free(tmp_path):
    take_lock(tmp_path)
    gc.collect()
    assert is_locked(tmp_path) is False


def test_a_lock_of_another_process_is_seen(holder, tmp_path):
    assert is_locked(tmp_path) is True
    with pytest.raises(LockHeld):
        take_lock(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_process_that_is_killed_gives_its_lock_back(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert is_locked(tmp_path) is False
    take_lock(tmp_path).release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_forked_child_that_lives_on_does_not_keep_the_lock(tmp_path):
    lock = take_lock(tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, b".")
        signal.pause()
    try:
        os.read(reader, 1)
        assert is_locked(tmp_path) is True
        lock.release()
        assert is_locked(tmp_path) is False
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_copied_folder_is_not_locked(tmp_path):
    folder, copy = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    copy.mkdir()
    lock = take_lock(folder)
    (copy / LOCK).write_bytes((folder / LOCK).read_bytes())
    assert is_locked(copy) is False
    lock.release()


def refuse(number):
    def lock(file, *, shared):
        raise OSError(number, os.strerror(number))

    return lock


def test_where_the_file_system_has_no_locks_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_lock", refuse(errno.ENOLCK))
    assert take_lock(tmp_path) is None
    assert is_locked(tmp_path) is None


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path, monkeypatch):
    outcomes = iter([refuse(errno.EAGAIN), refuse(errno.EAGAIN), locks._lock])
    monkeypatch.setattr(locks, "_lock", lambda file, *, shared: next(outcomes)(file, shared=shared))
    monkeypatch.setattr(locks, "PAUSE", 0)
    assert take_lock(tmp_path) is not None


def test_a_lock_file_that_cannot_be_opened_tells_nothing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / LOCK).symlink_to(tmp_path / "file" / "inside")
    assert is_locked(tmp_path) is None
