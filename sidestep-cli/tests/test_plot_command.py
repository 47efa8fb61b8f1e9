"""`sidestep plot` on runs as they are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]


def make_run(folder: Path, *losses: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"name": folder.name, "created": 1.0, "status": "complete"}))
    lines = [
        {"kind": "step", "step": n, "epoch": 1, "loss": loss, "smoothed": loss, "lr": 1e-4}
        for n, loss in enumerate(losses, 1)
    ]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_run_is_drawn_into_the_working_folder(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 0.5, 0.4)
    result = run_cli("plot", "run")
    assert (result.code, result.out) == (0, "plot.png\n")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("flag", ["-o", "--out"])
def test_several_runs_are_drawn_into_a_chosen_file(run_cli: RunCli, tmp_path: Path, flag: str) -> None:
    make_run(tmp_path / "one", 0.5, 0.4)
    make_run(tmp_path / "two", 0.6)
    assert run_cli("plot", "one", "two", flag, "runs.svg").out == "runs.svg\n"
    assert "<svg" in (tmp_path / "runs.svg").read_text("utf-8")


def test_a_run_without_a_loss_is_an_error(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    result = run_cli("plot", "run")
    assert (result.code, result.err) == (2, "error: run 'run' has reported no loss that could be drawn\n")
    assert not (tmp_path / "plot.png").exists()


def test_another_kind_of_picture_is_an_error(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 0.5)
    result = run_cli("plot", "run", "-o", "plot.pdf")
    assert (result.code, result.err) == (2, "error: 'plot.pdf' is neither .png nor .svg\n")


def test_without_matplotlib_it_is_said_what_to_install(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run", 0.5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run_cli("plot", "run")
    assert (result.code, result.err) == (2, "error: pictures need matplotlib: pip install 'sidestep-core[plot]'\n")


def test_a_folder_that_is_not_there_is_an_error(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 0.5)
    result = run_cli("plot", "run", "-o", "nowhere/plot.png")
    assert result.code == 2
    assert "no such file or directory" in result.err


def test_a_real_run_is_drawn(run_cli: RunCli, run_folder: Path, tmp_path: Path) -> None:
    assert run_cli("plot", run_folder).code == 0
    assert (tmp_path / "plot.png").stat().st_size > 10_000
