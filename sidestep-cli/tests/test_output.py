"""Tables and figures for people."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from sidestep_cli import output


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdout a terminal of forty columns."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "count", "what"), [("a", "1", "x"), ("longer", "1,000", "y")], right=("count",))
    assert capsys.readouterr().out == "NAME    COUNT  WHAT\na           1  x\nlonger  1,000  y\n"


def test_no_line_ends_in_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a", "b"), [("1", ""), ("2", "long")])
    assert all(line == line.rstrip() for line in capsys.readouterr().out.splitlines())


def test_colours_do_not_count_as_width(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a", "b"), [(click.style("ok", fg="green"), "1"), ("bad", "2")])
    assert [line.index(mark) for line, mark in zip(capsys.readouterr().out.splitlines(), "B12", strict=True)] == [
        5,
        5,
        5,
    ]


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a", "b"), [("1", "word " * 100)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_terminal_gets_the_last_column_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    output.print_table(("a", "b"), [("1", "word " * 10)])
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert [line[:3] for line in lines] == ["A  ", "1  ", "   "]


def test_facts_are_wrapped_beside_their_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_terminal(monkeypatch)
    output.print_facts([("one", "short"), ("longer", "word " * 10)])
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert lines[0] == "one     short"
    assert [line[:8] for line in lines[1:]] == ["longer  ", "        "]


def test_a_table_can_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a",), [("1",)], err=True)
    assert capsys.readouterr() == ("", "A\n1\n")


def test_json_keeps_letters_and_knows_paths(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": "Ö", "path": Path("a/b")})
    text = capsys.readouterr().out
    assert "Ö" in text
    assert json.loads(text) == {"name": "Ö", "path": "a/b"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_line_of_json_has_null_for_what_is_no_number(value: float) -> None:
    assert output.json_line({"loss": value, "step": 1}) == '{"loss": null, "step": 1}'
    assert output.json_line({"bands": [value, 0.5], "by": {"t": value}}) == '{"bands": [null, 0.5], "by": {"t": null}}'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (3.14, "3.1 s"), (42.4, "42 s"), (59.6, "1:00 min"), (187, "3:07 min"), (8100, "2:15 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(12, "12 B"), (4800, "4.8 kB"), (4.8e9, "4.8 GB"), (2.5e12, "2.5 TB")])
def test_sizes(count: float, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999"), (23_600, "23.6 k"), (23.6e6, "23.6 M"), (2.39e9, "2.39 B")])
def test_amounts(count: float, text: str) -> None:
    assert output.amount(count) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 songs"), (1, "1 song"), (1200, "1,200 songs")])
def test_plurals(count: int, text: str) -> None:
    assert output.plural(count, "song") == text


def test_a_long_name_loses_its_middle() -> None:
    short = output.shorten("a folder/with a long name.flac", 15)
    assert (len(short), short[:3], short[-5:]) == (15, "a f", ".flac")


def test_a_short_name_stays() -> None:
    assert output.shorten("song.wav", 15) == "song.wav"


def test_paths_below_the_working_folder_are_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output.plain_path(tmp_path / "a" / "b") == str(Path("a/b"))
    assert output.plain_path(tmp_path.parent) == str(tmp_path.parent)
