"""Pictures of runs: that they are made, are the same each time, and show what they should."""

import importlib.util
import itertools
import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
from matplotlib.collections import QuadMesh
from sidestep_core.errors import ConfigError, LoadError
from sidestep_core.plotting.curves import read_curves
from sidestep_core.plotting.draw import draw_runs
from sidestep_core.plotting.figure import make_figure
from sidestep_core.runs import read_run, write_record

ALL = ("loss", "learning rate", "cruise scale", "timestep t", "loss", "loss", "share of samples")


def make_run(folder, *, bands=True, scale=True, validation=True, steps=30):
    write_record(folder, {"name": folder.name, "status": "complete", "created": 5.0})
    lines = []
    for n in range(1, steps + 1):
        line = {"kind": "step", "step": 10 * n, "epoch": 1, "loss": 1 / n, "smoothed": 2 / (n + 1), "lr": 1e-4 * n}
        if scale:
            line["target_loss_scale"] = 1 / n
        if bands:
            line |= {"bands": [None if b == n % 10 else b / n for b in range(10)], "samples": [3] * 10}
        lines.append(line)
    if validation:
        lines.append({"kind": "validation", "step": 10 * steps, "epoch": 1, "loss": 0.5})
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def run(tmp_path):
    return read_run(make_run(tmp_path / "one"))


def figure(*folders, **options):
    return make_figure([read_curves(folder, folder.name) for folder in folders], **options)


def panels(made):
    return tuple(axes.get_ylabel() for axes in made.axes)


def test_everything_a_run_reported_has_a_panel(tmp_path):
    assert sorted(panels(figure(make_run(tmp_path / "one")))) == sorted(ALL)


def test_what_was_not_reported_has_none(tmp_path):
    folder = make_run(tmp_path / "one", bands=False, scale=False, validation=False)
    assert panels(figure(folder)) == ("loss", "learning rate")


def test_losses_can_be_drawn_alone(tmp_path):
    assert panels(figure(make_run(tmp_path / "one"), only_losses=True)) == ("loss",)


def labels(made):
    return [text.get_text() for text in made.axes[0].get_legend().get_texts()]


def test_several_runs_are_over_each_other_and_named(tmp_path):
    made = figure(make_run(tmp_path / "one"), make_run(tmp_path / "two", validation=False))
    assert labels(made) == ["one", "two", "loss", "smoothed", "held-out songs"]
    # loss and smoothed of both, the held-out songs of one
    assert len(made.axes[0].lines) == 5


def test_each_run_has_its_own_map_in_the_same_colours(tmp_path):
    made = figure(make_run(tmp_path / "one"), make_run(tmp_path / "two", steps=5))
    meshes = [mesh for axes in made.axes for mesh in axes.collections if isinstance(mesh, QuadMesh)]
    maps = [mesh for mesh in meshes if mesh.get_array().shape[0] == 10]
    assert len(maps) == 2
    assert maps[0].get_clim() == maps[1].get_clim()


def test_more_runs_than_colours_are_told_apart_by_the_line(tmp_path):
    made = figure(*(make_run(tmp_path / f"{n:02}", bands=False, validation=False) for n in range(9)))
    lines = [(line.get_color(), line.get_linestyle()) for line in made.axes[1].lines]
    assert len(set(lines)) == 9


def test_a_single_high_loss_does_not_flatten_the_others(tmp_path):
    folder = make_run(tmp_path / "one", bands=False)
    path = folder / "progress.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(json.dumps({**line, "loss": 1e6 if line["step"] == 50 else 0.5}) + "\n" for line in lines * 1)
    )
    many = [{**lines[0], "step": n, "loss": 0.5} for n in range(301, 600)]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in many)
    assert figure(folder).axes[0].get_ylim()[1] < 10


@pytest.mark.parametrize("name", ["_begins_low", "$a$_{x", "a^b", "名前 ♫", "\\frac"])
def test_any_name_can_be_drawn(tmp_path, name, recwarn):
    runs = [read_run(make_run(tmp_path / place)) for place in "ab"]
    draw_runs(runs, [name, "other"], tmp_path / "plot.svg")
    assert ET.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
    assert [warning for warning in recwarn if "sidestep" in str(warning.filename)] == []
    assert labels(make_figure([read_curves(run.path, name) for run in runs]))[0].strip() == name


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")])
def test_the_same_run_gives_the_same_bytes(tmp_path, run, suffix, begins):
    first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
    for path in (first, second):
        draw_runs([run], [run.name], path)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(begins)


def test_no_time_is_written_into_a_picture(tmp_path, run):
    draw_runs([run], [run.name], tmp_path / "plot.svg")
    assert "dc:date" not in (tmp_path / "plot.svg").read_text("utf-8")


def test_matplotlib_is_left_as_it_was(tmp_path, run):
    before = dict(mpl.rcParams)
    draw_runs([run], [run.name], tmp_path / "plot.png")
    assert dict(mpl.rcParams) == before


DRAW = """
import sys
from pathlib import Path
from sidestep_core.plotting.draw import draw_runs
from sidestep_core.runs import read_run
assert "matplotlib" not in sys.modules and "numpy" not in sys.modules
draw_runs([read_run(Path(sys.argv[1]))], ["one"], Path(sys.argv[2]))
print("matplotlib.pyplot" in sys.modules, "torch" in sys.modules)
"""


def test_nothing_global_of_matplotlib_is_needed_and_another_process_draws_the_same(tmp_path, run):
    command = [sys.executable, "-c", DRAW, str(run.path), str(tmp_path / "plot.svg")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False False\n"
    draw_runs([run], ["one"], tmp_path / "again.svg")
    assert (tmp_path / "plot.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_panels_do_not_overlap(tmp_path):
    made = figure(make_run(tmp_path / "one"), make_run(tmp_path / "two"))
    made.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in made.axes]
    assert all(made.bbox.x0 <= box.x0 and box.x1 <= made.bbox.x1 for box in boxes)
    # a panel's title may stand beside the end of the one above it, but not in it
    frames = [axes.get_window_extent() for axes in made.axes]
    assert [(a, b) for a, b in itertools.combinations(range(len(frames)), 2) if frames[a].overlaps(boxes[b])] == []


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "plot.svgz"])
def test_another_kind_of_picture_is_refused_before_anything_is_read(tmp_path, run, name):
    with pytest.raises(ConfigError, match=r"is neither \.png nor \.svg"):
        draw_runs([run], [run.name], tmp_path / name)


def test_a_run_that_reported_nothing_is_named(tmp_path, run):
    write_record(tmp_path / "new", {"name": "new"})
    with pytest.raises(ConfigError, match="new' has reported no loss"):
        draw_runs([run, read_run(tmp_path / "new")], ["one", "new"], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


def test_without_matplotlib_it_is_said_what_to_install(tmp_path, run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LoadError, match=r"pip install 'sidestep-core\[plot\]'"):
        draw_runs([run], [run.name], tmp_path / "plot.png")


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, run, monkeypatch):
    (tmp_path / "plot.png").write_bytes(b"old")
    monkeypatch.setattr("sidestep_core.plotting.figure.make_figure", lambda *args, **options: None)
    with pytest.raises(AttributeError):
        draw_runs([run], [run.name], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes() == b"old"
