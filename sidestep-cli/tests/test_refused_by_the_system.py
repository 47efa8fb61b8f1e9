"""What the file system refuses is told in a line: no room, a file in the way, a folder where a file should be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.synthetic import write_songs

RunCli = Callable[..., Any]
FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
from sidestep_cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def in_little_room(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `sidestep` in a process whose files may not grow beyond ten bytes."""
    environment = {**os.environ, "SIDESTEP_CONFIG_DIR": str(folder / "config")}
    command = [sys.executable, "-B", "-c", FULL, *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--output", "file"),
        ("demo", "--output", "file/below"),
        ("models", "tiny", "file"),
        ("train", "-c", "ck", "-d", "t", "-o", "file"),
        ("train", "-c", "ck", "-d", "t", "-o", "file/below"),
        ("train", "-c", "ck", "-d", "t", "-o", "file", "--dry-run"),
        ("dataset", "-i", "songs", "--output", "file/below.json"),
        ("dataset", "-i", "songs", "--output", "songs"),
    ],
    ids=" ".join,
)
def test_a_file_in_the_way_is_named_and_left_alone(
    run_cli: RunCli, tmp_path: Path, tiny_checkpoint: Path, tensors: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "ck").symlink_to(tiny_checkpoint)
    (tmp_path / "t").symlink_to(tensors)
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").touch()
    result = run_cli(*words)
    assert (result.code, result.out) == (2, "")
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "file" in lines[0] or "songs" in lines[0]
    assert (tmp_path / "file").read_text() == "precious"


def test_a_run_says_which_file_is_in_its_way(
    run_cli: RunCli, tmp_path: Path, tiny_checkpoint: Path, tensors: Path
) -> None:
    (tmp_path / "file").touch()
    result = run_cli("train", "-c", tiny_checkpoint, "-d", tensors, "-o", "file/a/b")
    assert (result.code, result.err) == (2, "error: --output-dir 'file/a/b' cannot be made: 'file' is a file\n")


def test_a_full_disk_costs_one_line_and_leaves_the_old_settings(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("settings", "set", "audio_dir", "before")
    before = (tmp_path / "config" / "settings.toml").read_bytes()
    done = in_little_room(tmp_path, "settings", "set", "audio_dir", "after")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: file too large\n")
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["settings.toml"]
    assert (tmp_path / "config" / "settings.toml").read_bytes() == before


def test_a_full_disk_leaves_every_sidecar_whole(tmp_path: Path) -> None:
    write_songs(tmp_path / "songs", seconds=(0.5, 0.5))
    before = {path.name: path.read_bytes() for path in (tmp_path / "songs").iterdir()}
    done = in_little_room(tmp_path, "tags", "set", "songs", "--tag", "mine")
    assert (done.returncode, done.stderr) == (2, "error: file too large\n")
    assert {path.name: path.read_bytes() for path in (tmp_path / "songs").iterdir()} == before


def test_a_full_disk_leaves_no_half_dataset_file(tmp_path: Path) -> None:
    write_songs(tmp_path / "songs", seconds=(0.5,))
    before = sorted(path.name for path in (tmp_path / "songs").iterdir())
    done = in_little_room(tmp_path, "dataset", "-i", "songs")
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(path.name for path in (tmp_path / "songs").iterdir()) == before


def test_errors_of_libraries_that_only_look_like_it_keep_their_traceback(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("a model could not be loaded")

    monkeypatch.setattr("sidestep_cli.commands.history.known_runs", fail)
    with pytest.raises(OSError, match="a model could not be loaded"):
        run_cli("history")
