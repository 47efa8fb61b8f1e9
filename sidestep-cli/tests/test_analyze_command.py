"""`sidestep analyze`: what it prints, writes, asks and leaves alone."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path, tensors: Path, tiny_checkpoint: Path) -> Path:
    """Return the working folder with tensors of three songs and a checkpoint."""
    shutil.copytree(tensors, tmp_path / "t")
    (tmp_path / "ck").symlink_to(tiny_checkpoint)
    return tmp_path


@pytest.fixture
def analyze(run_cli: RunCli, folder: Path) -> RunCli:
    """Return a function that analyzes the tensors; one run unless the arguments say more."""

    def go(*args: str | Path, before: tuple[str, ...] = (), **options: Any) -> Any:
        where = ("-c", "ck", "-d", "t", "--device", "cpu", "--precision", "fp32")
        return run_cli(*before, "analyze", *where, "--runs", "1", "--batches", "3", *args, **options)

    return go


class Terminal(io.StringIO):
    """Standard input with somebody in front of it."""

    def isatty(self) -> bool:
        """Return that there is."""
        return True


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let standard input be a terminal."""
    monkeypatch.setattr("io.StringIO", Terminal)


def test_it_prints_what_was_found_and_where_it_is(analyze: RunCli, folder: Path) -> None:
    result = analyze("--runs", "2")
    assert result.code == 0
    lines = result.out.splitlines()
    facts = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines[:6]}
    assert facts["model"] == "acestep-v15-base"
    assert facts["songs"] == "3 of 3, measured 6 times in 2 runs"
    assert facts["noise"] == "as in training"
    assert facts["ranks"].endswith(" around 64, on 25 of 44 projections")
    assert facts["trains"].endswith(" parameters of lora")
    assert lines[-1] == "written: t/fisher_map.json"
    assert (folder / "t" / "fisher_map.json").is_file()


def test_the_ranking_has_the_twenty_highest_scores_with_bars(analyze: RunCli, folder: Path) -> None:
    lines = analyze().out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("PROJECTION"))
    rows = [line.split() for line in lines[begin + 1 : begin + 21]]
    modules = json.loads((folder / "t" / "fisher_map.json").read_text())["modules"]
    assert [row[0] for row in rows] == [module["name"].removeprefix("decoder.") for module in modules[:20]]
    assert [int(row[4]) for row in rows] == [module["assigned_rank"] for module in modules[:20]]
    widths = [len(row[5]) for row in rows]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 24
    assert lines[begin + 21] == "and 5 more"


def test_the_ranks_of_all_projections_are_laid_out_by_layer(analyze: RunCli, folder: Path) -> None:
    lines = analyze().out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("LAYER"))
    assert lines[begin].split() == [
        "LAYER",
        "S.Q",
        "S.K",
        "S.V",
        "S.O",
        "C.Q",
        "C.K",
        "C.V",
        "C.O",
        "GATE",
        "UP",
        "DOWN",
    ]
    cells = [line.split() for line in lines[begin + 1 : begin + 5]]
    ranks = json.loads((folder / "t" / "fisher_map.json").read_text())["rank_pattern"]
    assert [row[0] for row in cells] == ["0", "1", "2", "3"]
    assert sum(cell != "·" for row in cells for cell in row[1:]) == len(ranks)
    assert cells[2][7] == str(ranks["layers.2.cross_attn.v_proj"])


def test_progress_goes_to_stderr_with_what_to_do_next(analyze: RunCli) -> None:
    err = analyze().err.splitlines()
    assert err[0].startswith("warning: 3 songs say little about a style")
    assert "run 1/1: 3 songs" in err
    assert "effective ranks of 44 weights" in err
    assert err[-1] == "next: sidestep train --dataset-dir t --output-dir my_adapter --lr 5e-5"


def test_json_is_a_line_for_each_event_and_holds_the_map(analyze: RunCli, folder: Path) -> None:
    events = [json.loads(line) for line in analyze("--json").out.splitlines()]
    assert [event["event"] for event in events[-2:]] == ["analysis-finished", "rank-map-saved"]
    finished, saved = events[-2:]
    assert finished["map"] == json.loads((folder / "t" / "fisher_map.json").read_text())
    assert len(finished["scores"]) == 44
    assert (saved["path"], saved["pictures"]) == ("t/fisher_map.json", [])


def test_json_of_a_single_batch_is_strict_json(analyze: RunCli) -> None:
    events = [json.loads(line) for line in analyze("--json", "--batches", "1").out.splitlines()]
    assert events[-2]["map"]["ranking_error"] is None


def test_two_commands_give_identical_files(analyze: RunCli, folder: Path) -> None:
    kinds = ("json", "png", "svg")
    assert analyze("--plot", "-o", "first").code == analyze("--plot", "-o", "second").code == 0
    files = [[(folder / place / f"fisher_map.{kind}").read_bytes() for kind in kinds] for place in ("first", "second")]
    assert files[0] == files[1]


def test_pictures_are_told(analyze: RunCli, folder: Path) -> None:
    lines = analyze("--plot").out.splitlines()
    assert lines[-3:] == [f"written: t/fisher_map.{kind}" for kind in ("json", "png", "svg")]


@pytest.mark.parametrize(("output", "file"), [("mine.json", "mine.json"), ("maps", "maps/fisher_map.json")])
def test_the_map_goes_where_it_is_wanted(analyze: RunCli, folder: Path, output: str, file: str) -> None:
    result = analyze("--output", output)
    assert result.out.splitlines()[-1] == f"written: {file}"
    assert (folder / file).is_file()
    assert not (folder / "t" / "fisher_map.json").exists()
    assert "next:" not in result.err


def test_a_budget_is_told(analyze: RunCli) -> None:
    out = analyze("--budget", "100000").out
    assert " for a budget of 100,000, on 25 of 44 projections" in out


def test_a_plan_shows_the_map_and_every_rank(analyze: RunCli, run_cli: RunCli, folder: Path) -> None:
    analyze()
    train = ("train", "-c", "ck", "-d", "t", "-o", "run", "--device", "cpu", "--dry-run")
    result = run_cli(*train, "--lr", "5e-5")
    assert (result.code, result.err) == (0, "")
    assert "t/fisher_map.json: ranks of their own, 19 projections left out" in result.out
    assert "25 projections" in result.out
    assert "LAYER  S.Q" in result.out
    plan = json.loads(run_cli(*train, "--json").out)
    assert plan["ranks"] == json.loads((folder / "t" / "fisher_map.json").read_text())["rank_pattern"]
    assert plan["ranks"].keys() == set(plan["targets"])
    assert any("--lr 0.0003 is high" in notice for notice in plan["notices"])


def test_a_plan_with_a_map_of_other_tensors_ends_in_one_line(analyze: RunCli, run_cli: RunCli, folder: Path) -> None:
    analyze()
    index = json.loads((folder / "t" / "index.json").read_text())
    index["songs"] = index["songs"][1:]
    (folder / "t" / "index.json").write_text(json.dumps(index))
    result = run_cli("train", "-c", "ck", "-d", "t", "-o", "run", "--dry-run")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: 't/fisher_map.json' was made for other tensors than these, or for a part of them; make a new one with "
        "'sidestep analyze --dataset-dir t', or train without with --ignore-fisher-map\n"
    )
    assert run_cli("train", "-c", "ck", "-d", "t", "-o", "run", "--dry-run", "--ignore-fisher-map").code == 0


# Replacing another map


@pytest.fixture
def other(folder: Path) -> Path:
    """Return a rank map that is there already."""
    path = folder / "t" / "fisher_map.json"
    path.write_text("another")
    return path


@pytest.mark.usefixtures("somebody")
def test_on_a_terminal_it_asks_before_another_map_is_replaced(analyze: RunCli, other: Path) -> None:
    result = analyze(typed="n\n")
    assert result.code == 0
    assert "replace the rank map 't/fisher_map.json'? [Y/n]" in result.err
    assert result.err.endswith("'t/fisher_map.json' is left as it was\n")
    assert "PROJECTION" in result.out
    assert other.read_text() == "another"
    assert analyze(typed="\n").code == 0
    assert other.read_text() != "another"


@pytest.mark.usefixtures("somebody")
def test_the_same_map_is_written_again_without_a_question(analyze: RunCli, other: Path) -> None:
    analyze(before=("--yes",))
    assert "replace" not in analyze().err


@pytest.mark.usefixtures("somebody")
def test_with_yes_it_does_not_ask(analyze: RunCli, other: Path) -> None:
    result = analyze(before=("--yes",))
    assert "replace" not in result.err
    assert other.read_text() != "another"


def test_where_nobody_can_answer_it_does_not_ask(analyze: RunCli, other: Path) -> None:
    result = analyze()
    assert (result.code, "replace" in result.err) == (0, False)
    assert other.read_text() != "another"


# What cannot be done


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--timestep-focus", "loud"), "timestep_focus must be balanced, texture, structure or LOW,HIGH"),
        (("--rank-min", "64", "--rank-max", "32"), "rank_min (64) must not be above rank_max (32)"),
        (("--budget", "10"), "--budget 10: the smallest ranks already train"),
        (("--adapter-type", "lorra"), "lorra"),
        (("--output", "t/index.json/map.json"), "nothing can be written to 't/index.json'"),
        (("--model", "turbo"), "no model 'turbo'"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    analyze: RunCli, folder: Path, args: tuple[str, ...], words: str
) -> None:
    result = analyze(*args)
    assert result.code == 2
    assert words in result.err
    assert not (folder / "t" / "fisher_map.json").exists()


def test_pictures_that_cannot_be_drawn_are_told_before_the_work(
    analyze: RunCli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = analyze("--plot")
    assert result.code == 2
    assert result.err == "error: pictures need matplotlib: pip install 'sidestep-core[plot]'\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_analysis_leaves_nothing(start: Start, folder: Path, number: int, code: int) -> None:
    args = ("-c", "ck", "-d", "t", "--device", "cpu", "--runs", "100000", "--convergence-patience", "100000", "--json")
    process = start("analyze", *args)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "song-finished":
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "stopping: no rank map is written" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in (folder / "t").iterdir()) == ["conditioning", "index.json", "latents"]
    assert not (folder / "cache").exists()
