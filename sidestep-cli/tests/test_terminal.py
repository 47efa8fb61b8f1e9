"""What a person sees: the program on a real terminal (a pseudo-terminal of a given width)."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = "from sidestep_cli.main import main; main()"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
Screen = Callable[..., str]


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """Return a function that runs `sidestep` on a terminal and returns all it wrote there."""

    def run(*args: str | Path, width: int, **environment: str) -> str:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        folders = {"SIDESTEP_CONFIG_DIR": str(tmp_path / "config"), "SIDESTEP_DATA_DIR": str(tmp_path / "data")}
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, args)],
            cwd=tmp_path,
            env={**kept, **folders, "TERM": "xterm-256color", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        written = b"".join(_chunks(ours))
        os.close(ours)
        assert process.wait() == 0, written.decode()
        return written.decode()

    return run


def _chunks(descriptor: int) -> list[bytes]:
    chunks = []
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal this way
            return chunks
        if not chunk:
            return chunks
        chunks.append(chunk)


def lines(text: str) -> list[str]:
    return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", text)) if line]


@pytest.fixture
def dry_run(tensors: Path, tiny_checkpoint: Path) -> tuple[str, ...]:
    return ("train", "-c", str(tiny_checkpoint), "-d", str(tensors), "-o", "run", "--dry-run")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("train", "--help"),
        ("train", "--preprocess", "--help"),
        ("plugins", "list"),
        ("plugins", "show", "core"),
        ("settings", "show"),
        ("presets", "list"),
        ("presets", "show", "recommended"),
        ("preprocess", "--help"),
        ("export", "--help"),
    ],
    ids=" ".join,
)
def test_every_listing_fits_the_terminal(screen: Screen, args: tuple[str, ...], width: int) -> None:
    assert max(map(len, lines(screen(*args, width=width)))) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_models_and_plans_fit_the_terminal(
    screen: Screen, dry_run: tuple[str, ...], tiny_checkpoint: Path, width: int, tmp_path: Path
) -> None:
    # names of temporary folders are long; those of users are theirs to choose
    (tmp_path / "ck").symlink_to(tiny_checkpoint)
    (tmp_path / "t").symlink_to(dry_run[4])
    for args in (("models", "list", "-c", "ck"), ("train", "-c", "ck", "-d", "t", "-o", "run", "--dry-run")):
        assert max(map(len, lines(screen(*args, width=width)))) <= width


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a folder of songs with long names and long tags."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number} a song with a name that goes on.wav").touch()
        tags = ", ".join(f"tag {i}" for i in range(20))
        (folder / f"{number} a song with a name that goes on.txt").write_text(f"caption: c\ncustom_tag: {tags}\n")
    return folder


@pytest.mark.parametrize("width", [80, 120])
def test_the_last_column_of_a_table_is_wrapped_between_words(screen: Screen, library: Path, width: int) -> None:
    shown = lines(screen("tags", "list", library, width=width))
    assert max(map(len, shown)) <= width
    assert " ".join(" ".join(shown).split()).count("tag 18, tag 19") == 3


def test_a_pipe_gets_whole_lines_whatever_the_width(library: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "tags", "list", str(library)]
    variables = {**os.environ, "COLUMNS": "40", "SIDESTEP_CONFIG_DIR": str(tmp_path)}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert len(result.stdout.splitlines()) == 4
    assert "\x1b[" not in result.stdout


@pytest.mark.parametrize("width", [40, 80, 120])
def test_runs_fit_the_terminal_with_their_best_loss(screen: Screen, tmp_path: Path, width: int) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"name": "run", "status": "complete", "created": 1.0}')
    assert "complete" in screen("history", width=width)
    (row,) = [line for line in lines(screen("history", width=max(width, 80))) if "complete" in line]
    assert len(row) <= max(width, 80)


def test_a_terminal_that_can_nothing_gets_no_moving_parts(screen: Screen) -> None:
    assert "\x1b[?25l" not in screen("plugins", "list", width=80, TERM="dumb")


def test_status_is_coloured_on_a_terminal(screen: Screen) -> None:
    assert "\x1b[32mok\x1b[0m" in screen("plugins", "list", width=80)


@pytest.mark.parametrize(("flags", "environment"), [(("--plain",), {}), ((), {"NO_COLOR": "1"})])
def test_colours_can_be_turned_off(screen: Screen, flags: tuple[str, ...], environment: dict[str, str]) -> None:
    assert "\x1b[" not in screen(*flags, "plugins", "list", width=80, **environment)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "bar"), [((), True), (("--plain",), False)])
def test_training_draws_a_panel_unless_plain_lines_are_wanted(
    screen: Screen, dry_run: tuple[str, ...], flags: tuple[str, ...], bar: bool
) -> None:
    text = screen(*flags, *dry_run[:-1], "--max-steps", "3", "--log-every", "1", width=80)
    assert ("━━━" in text) is bar
    assert ("step 3/3" in text) is not bar
    assert lines(text)[-1] == "adapter in run/final"
