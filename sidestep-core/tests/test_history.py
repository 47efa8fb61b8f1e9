"""The index of all runs in the user's data folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core import runs
from sidestep_core.errors import AmbiguousName, SidestepError, UnknownName
from sidestep_core.history import enter, entries, find_run, forget, known_runs
from sidestep_core.runs import write_record
from sidestep_core.settings import data_folder


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Give each test a history of its own."""
    monkeypatch.setenv("SIDESTEP_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def make_run(folder, **changes):
    known = {"name": folder.name, "created": 5.0, "adapter_type": "lora", "variant": "base", **changes}
    write_record(folder, known)
    assert list(enter(folder, known)) == []
    return folder


def names(runs):
    return [run.name for run in runs]


def test_without_runs_there_is_no_history(data):
    assert entries() == []
    assert known_runs() == []
    assert not data.exists()


def test_a_run_is_known_wherever_it_is(tmp_path):
    folder = make_run(tmp_path / "far" / "away" / "and" / "deep" / "one")
    assert [run.path for run in known_runs()] == [folder]


def test_a_run_entered_twice_is_one(tmp_path):
    make_run(tmp_path / "one")
    make_run(tmp_path / "one", name="renamed")
    assert names(known_runs()) == ["renamed"]
    assert len(entries()) == 1


def test_one_folder_under_two_paths_is_one_run(tmp_path):
    folder = make_run(tmp_path / "one")
    (tmp_path / "link").symlink_to(folder)
    enter(tmp_path / "link", {"name": "one", "created": 5.0, "adapter_type": "lora", "variant": "base"})
    assert len(entries()) == 1


def test_a_run_entered_by_a_relative_path_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("one"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert [run.path for run in known_runs()] == [tmp_path / "one"]


def test_a_run_that_is_known_and_lies_in_a_folder_is_listed_once(tmp_path):
    make_run(tmp_path / "output" / "one")
    write_record(tmp_path / "output" / "two", {"name": "two", "created": 4.0})
    assert names(known_runs([tmp_path / "output"])) == ["one", "two"]


def test_the_newest_come_first_and_only_as_many_as_wanted(tmp_path):
    for number in range(5):
        make_run(tmp_path / f"{number}", created=float(number))
    assert names(known_runs(limit=3)) == ["4", "3", "2"]


def test_a_run_whose_folder_is_gone_is_missing(tmp_path):
    folder = make_run(tmp_path / "one")
    folder.rename(tmp_path / "elsewhere")
    (run,) = known_runs()
    assert (run.status, run.path, run.name, run.adapter_type) == ("missing", folder, "one", "lora")


def test_a_missing_run_counts_among_the_newest(tmp_path):
    make_run(tmp_path / "old", created=1.0)
    make_run(tmp_path / "gone", created=2.0).rename(tmp_path / "elsewhere")
    assert names(known_runs(limit=1)) == ["gone"]


def test_a_forgotten_run_stays_where_it_is(tmp_path):
    folder = make_run(tmp_path / "one")
    assert forget(folder) is True
    assert forget(folder) is False
    assert known_runs() == []
    assert (folder / "run.json").is_file()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"path": "a"}', '{"path": 3, "created": 1}', "\xff"])
def test_a_damaged_entry_hides_no_others(tmp_path, data, content):
    make_run(tmp_path / "one")
    (data / "runs" / "odd.json").write_text(content, encoding="latin-1")
    assert names(known_runs()) == ["one"]


def test_a_damaged_run_hides_no_others(tmp_path):
    make_run(tmp_path / "one")
    (make_run(tmp_path / "two") / "run.json").write_text("{")
    assert names(known_runs()) == ["one"]


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_a_folder_whose_name_is_no_text_is_known(tmp_path):
    folder = make_run(Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9")), name="one")
    assert [run.path for run in known_runs()] == [folder]


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path, data):
    data.write_text("a file is in the way")
    known = {"name": "one", "created": 5.0, "adapter_type": "lora", "variant": "base"}
    (line,) = enter(tmp_path / "one", known)
    assert str(data) in line
    assert "SIDESTEP_DATA_DIR" in line


def test_entries_are_whole_or_not_there(tmp_path, data):
    make_run(tmp_path / "one")
    (file,) = (data / "runs").iterdir()
    assert json.loads(file.read_text())["path"] == str(tmp_path / "one")


ENTER = """
import sys
from pathlib import Path
from sidestep_core.history import enter
for number in range(40):
    name = f"{sys.argv[2]}-{number}"
    known = {"name": name, "created": 1.0, "adapter_type": "lora", "variant": "base"}
    assert list(enter(Path(sys.argv[1], name), known)) == []
"""


def test_runs_that_begin_at_the_same_time_lose_nothing_of_each_other(tmp_path):
    command = [sys.executable, "-c", ENTER, str(tmp_path)]
    started = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len(entries()) == 120


def test_a_run_is_found_by_its_folder(tmp_path):
    write_record(tmp_path / "one", {"name": "first"})
    assert find_run(str(tmp_path / "one")).name == "first"


@pytest.mark.parametrize("named", ["20260101_lora", "my_lora", "2026", "my_l"])
def test_a_run_is_found_by_name_by_folder_and_by_how_they_begin(tmp_path, named):
    make_run(tmp_path / "my_lora", name="20260101_lora")
    make_run(tmp_path / "other")
    assert find_run(named).path == tmp_path / "my_lora"


def test_a_whole_name_goes_before_one_that_begins_with_it(tmp_path):
    make_run(tmp_path / "jazz")
    make_run(tmp_path / "jazz_2")
    assert find_run("jazz").path == tmp_path / "jazz"


def test_a_name_of_several_runs_is_not_guessed(tmp_path):
    for place in "ab":
        make_run(tmp_path / place / "jazz")
    with pytest.raises(AmbiguousName, match=r"'jazz' may be any of 2 runs.*a.jazz.*b.jazz"):
        find_run("jazz")


def test_a_name_of_no_run_is_an_error(tmp_path):
    make_run(tmp_path / "jazz")
    with pytest.raises(UnknownName, match="no run 'rock'"):
        find_run("rock")


def test_a_missing_run_is_found_by_name(tmp_path):
    make_run(tmp_path / "jazz").rename(tmp_path / "elsewhere")
    assert find_run("jazz").status == "missing"


def test_a_run_of_a_folder_is_found_by_name_though_nobody_entered_it(tmp_path):
    write_record(tmp_path / "output" / "jazz", {"name": "jazz"})
    assert find_run("jazz", [tmp_path / "output"]).path == tmp_path / "output" / "jazz"


def test_a_damaged_run_that_is_named_is_an_error(tmp_path):
    (make_run(tmp_path / "one") / "run.json").write_text("{")
    with pytest.raises(SidestepError, match="is damaged"):
        find_run(str(tmp_path / "one"))


def test_finding_a_run_reads_no_progress_of_others(tmp_path, monkeypatch):
    make_run(tmp_path / "one")
    make_run(tmp_path / "two")
    read = []
    monkeypatch.setattr(runs, "read_progress", lambda path: read.append(path.parent.name) or [])
    find_run("two")
    assert read == ["two"]


def test_the_data_folder_is_the_platforms_unless_given(monkeypatch):
    assert data_folder().name == "data"
    monkeypatch.delenv("SIDESTEP_DATA_DIR")
    assert data_folder().name == "sidestep"
