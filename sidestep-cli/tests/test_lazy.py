"""Commands of other packages, installed for real in a throwaway site folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Sidestep = Callable[..., subprocess.CompletedProcess[str]]
MODULES = {
    "good": "import click\n\n@click.command()\ndef command():\n    '''Greet.'''\n    click.echo('hello from good')\n",
    "raising": "raise ValueError('not today')\n",
    "leaving": "import sys\nsys.exit(7)\n",
    "wrong": "command = 'no command at all'\n",
    "taking": "import click\n\n@click.command()\ndef command():\n    click.echo('taken over')\n",
}
NAMES = {"good": "hello", "raising": "broken", "leaving": "leave", "wrong": "text", "taking": "history"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a distribution for each module, as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    for module, source in MODULES.items():
        (folder / f"{module}_commands.py").write_text(f"print('imported {module}')\n{source}")
        info = folder / f"sidestep_{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sidestep-{module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sidestep.commands]\n{NAMES[module]} = {module}_commands:command\n")
    return folder


@pytest.fixture
def sidestep(site: Path, tmp_path: Path) -> Sidestep:
    def call(*args: str) -> subprocess.CompletedProcess[str]:
        folders = {"SIDESTEP_CONFIG_DIR": str(tmp_path), "SIDESTEP_DATA_DIR": str(tmp_path / "data")}
        environment = {**os.environ, **folders, "PYTHONPATH": str(site), "COLUMNS": "80"}
        command = [sys.executable, "-c", "from sidestep_cli.main import main; main()", *args]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return call


def test_they_are_listed_by_name_and_distribution_without_being_imported(sidestep: Sidestep) -> None:
    result = sidestep("--help")
    assert result.returncode == 0
    assert "imported" not in result.stdout
    listing = result.stdout.partition("From other packages:\n")[2]
    assert [line.split()[0] for line in listing.splitlines()[:4]] == ["broken", "hello", "leave", "text"]
    assert [line.split(maxsplit=1) for line in listing.splitlines()][1] == ["hello", "From sidestep-good."]


def test_one_that_works_runs(sidestep: Sidestep) -> None:
    result = sidestep("hello")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "hello from good")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "command 'broken' of sidestep-raising cannot be loaded: ValueError: not today"),
        ("leave", "command 'leave' of sidestep-leaving cannot be loaded: SystemExit: 7"),
        ("text", "command 'text' of sidestep-wrong is no click command but 'no command at all'"),
    ],
)
def test_one_that_does_not_load_costs_one_line(sidestep: Sidestep, name: str, reason: str) -> None:
    result = sidestep(name)
    assert (result.returncode, result.stderr) == (2, f"error: {reason}\n")


def test_a_name_of_ours_cannot_be_taken_over(sidestep: Sidestep) -> None:
    result = sidestep("history")
    assert "taken over" not in result.stdout
    assert "no runs found" in result.stderr
