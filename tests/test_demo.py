"""The demo: what a newcomer runs first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from sidestep_core.sidecars import parse
from sidestep_core.synthetic import write_songs

pytestmark = pytest.mark.slow


def demo(folder, *args):
    environment = {**os.environ, "SIDESTEP_CONFIG_DIR": str(folder / "config"), "COLUMNS": "100"}
    command = [sys.executable, "-m", "sidestep_cli", "demo", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, "--output", "out")


def test_it_goes_all_the_way(finished):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    assert (folder / "out/run/final/adapter_model.safetensors").is_file()
    assert (folder / "out/export/diffusers/pytorch_lora_weights.safetensors").is_file()


def test_songs_that_say_their_tempo_are_not_measured_again(finished):
    _, result = finished
    assert "measuring tempo, key and metre" in result.stderr
    assert "6 songs said everything already" in result.stderr


def test_the_loss_falls_and_the_report_shows_it(finished):
    folder, _ = finished
    page = (folder / "out/report.html").read_text("utf-8")
    lines = [json.loads(line) for line in (folder / "out/run/progress.jsonl").read_text("utf-8").splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    tenth = max(1, len(losses) // 10)
    assert sum(losses[-tenth:]) < sum(losses[:tenth])
    assert "The smoothed loss fell" in page


def test_every_file_the_report_names_is_there(finished):
    folder, _ = finished
    page = (folder / "out/report.html").read_text("utf-8")
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) >= 6
    assert [s for s in sources if not (folder / "out" / s).is_file()] == []


def test_the_picture_of_the_way_is_well_formed(finished):
    folder, _ = finished
    assert ElementTree.parse(folder / "out/way.svg").getroot().tag.endswith("svg")


def test_it_says_where_everything_is(finished):
    _, result = finished
    assert "report.html" in result.stdout
    assert "final" in result.stdout


def test_it_runs_on_the_users_own_folder_and_leaves_it_alone(tmp_path):
    songs = tmp_path / "mine"
    write_songs(songs / "album", seconds=(0.8, 11.0))
    for sidecar in songs.rglob("*.txt"):
        sidecar.write_text("caption: a song of mine\n", "utf-8")
    before = {p: p.stat().st_mtime_ns for p in songs.rglob("*")}
    result = demo(tmp_path, "--output", "out", "--audio-dir", str(songs))
    assert result.returncode == 0, result.stderr
    assert {p: p.stat().st_mtime_ns for p in songs.rglob("*")} == before
    brief, long = (parse(path.read_text("utf-8")) for path in sorted((tmp_path / "out/songs").rglob("*.txt")))
    assert (brief.key, bool(long.key)) == ("", True)  # of a second of music nobody can tell


def test_it_never_overwrites_a_folder_of_something_else(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious", "utf-8")
    result = demo(tmp_path, "--output", "out")
    assert result.returncode == 2
    assert "not empty" in result.stderr
    assert (tmp_path / "out" / "thesis.txt").read_text("utf-8") == "precious"


def test_a_folder_without_songs_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    result = demo(tmp_path, "--output", "out", "--audio-dir", "empty")
    assert result.returncode == 2
    assert "no audio in 'empty'" in result.stderr
