"""`sidestep dataset check` on real folders: what it prints, its exit codes and its refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sidestep_core.sidecars import Sidecar, write_sidecar
from sidestep_core.synthetic import write_songs

RunCli = Callable[..., Any]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Return a folder of two songs with nothing wrong."""
    write_songs(tmp_path / "songs", seconds=[0.6, 0.4])
    return tmp_path / "songs"


@pytest.fixture
def odd(songs: Path) -> Path:
    """Return that folder with a silent song, one that is there twice, and lyrics that are far too long."""
    soundfile.write(songs / "silent.wav", np.zeros(8000), 8000)
    (songs / "b.wav").write_bytes((songs / "01-synthwave.wav").read_bytes())
    write_sidecar(songs / "b.wav", Sidecar(caption="c", lyrics="[Verse]\n" + "la la la\n" * 2000))
    return songs


def test_a_set_with_nothing_wrong_is_said_to_lose_nothing(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("dataset", "check", songs, "--workers", "1")
    assert result.code == 0
    assert result.out == (
        f"2 usable songs, 1.0 s of audio\n  0:00 to 0:15  {'█' * 40} 2\npreprocessing would drop nothing\n"
    )
    assert result.err.splitlines()[0] == "listening: 2 songs"


def test_what_is_wrong_is_a_table_and_exit_code_1(run_cli: RunCli, odd: Path) -> None:
    result = run_cli("dataset", "check", odd, "--workers", "1")
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[-6:-3] == [
        "FINDING     SONG        WHAT IT IS",
        "silent      silent.wav  its peak is below -90 dBFS",
        "duplicate   b.wav       the same samples as '01-synthwave.wav'",
    ]
    assert lines[-3].startswith("cut lyrics  b.wav       about ")
    assert lines[-1] == "preprocessing would drop something: 1 silent, 1 cut lyrics"


@pytest.mark.parametrize("words", [("songs",), ("--audio-dir", "songs"), ("-i", "songs"), ("list.json",)])
def test_songs_may_be_named_in_any_usual_way(run_cli: RunCli, songs: Path, words: tuple[str, ...]) -> None:
    run_cli("dataset", "--input", songs, "--output", "list.json")
    assert run_cli("dataset", "check", *words, "--workers", "1").out.startswith("2 usable songs")


def test_the_exact_prompts_are_printed_on_demand(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("dataset", "check", songs, "--prompts", "--custom-tag", "zed", "--workers", "1")
    assert "# Caption\n  zed, driving synthwave" in result.out
    assert "- duration: 0 seconds\n  <|endoftext|>\n" in result.out
    assert "# Languages\n  unknown\n\n  # Lyric\n  [Verse]\n" in result.out


def test_all_of_it_is_json_on_demand(run_cli: RunCli, odd: Path) -> None:
    result = run_cli("dataset", "check", odd, "--json", "--workers", "1")
    report = json.loads(result.out)
    assert (result.code, result.err) == (1, "")
    assert [song["name"] for song in report["songs"]] == ["01-synthwave.wav", "02-waltz.flac", "b.wav"]
    assert [finding["kind"] for finding in report["findings"]] == ["duplicate", "cut lyrics", "silent"]
    assert report["lengths"] == [{"length": "0:00 to 0:15", "songs": 3}]
    assert (report["dropped"], report["notes"]) == (2, [])
    assert report["songs"][0]["prompt"].startswith("# Instruction\n")


def test_many_findings_of_a_kind_are_cut_short(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(23):
        (tmp_path / "many" / f"{number:02}.wav").touch()
    result = run_cli("dataset", "check", "many", "--workers", "1")
    assert result.out.count("empty file") == 20
    assert "unreadable  and 3 more  --json lists all\n" in result.out
    assert result.out.endswith("preprocessing would drop something: 23 unreadable\n")


@pytest.mark.parametrize("name", ["lengths.png", "new/lengths.svg"])
def test_the_lengths_are_drawn_on_demand(run_cli: RunCli, songs: Path, tmp_path: Path, name: str) -> None:
    result = run_cli("dataset", "check", songs, "--plot", name, "--workers", "1")
    assert (result.code, (tmp_path / name).stat().st_size > 3000) == (0, True)
    assert f"lengths drawn in {Path(name)}\n" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no songs: give --audio-dir or --dataset-json"),
        (("nowhere",), "no dataset file 'nowhere'"),
        (("songs", "--audio-dir", "songs"), "songs are named twice: give SONGS, --audio-dir or --dataset-json"),
        (("songs", "--plot", "a.doc"), "'a.doc' is neither .png nor .svg"),
        (("songs", "-c", "nowhere"), "nowhere"),
        (("songs", "--genre-ratio", "101"), "--genre-ratio: must be at most 100, got 101"),
    ],
)
@pytest.mark.usefixtures("songs")
def test_what_cannot_be_checked_is_refused_in_one_line(run_cli: RunCli, words: tuple[str, ...], message: str) -> None:
    result = run_cli("dataset", "check", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("error: ")]) == 1


def test_options_of_the_check_stand_behind_it(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("dataset", "--input", songs, "check")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: options of 'check' stand behind it")


def test_nothing_is_written(run_cli: RunCli, odd: Path) -> None:
    before = {path: path.read_bytes() for path in odd.rglob("*")}
    run_cli("dataset", "check", odd, "--workers", "1")
    assert {path: path.read_bytes() for path in odd.rglob("*")} == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_check_that_is_interrupted_ends_with_130(tmp_path: Path) -> None:
    write_songs(tmp_path / "songs", seconds=[4.0] * 12)
    command = [sys.executable, "-m", "sidestep_cli", "--plain", "dataset", "check", "songs", "--workers", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("listening 1/12"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "nothing is written" in err
