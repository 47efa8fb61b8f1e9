"""A path behind a command or behind --input, and how differences are printed."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sidestep_cli.check_text import print_checked, to_json
from sidestep_cli.inputs import input_path
from sidestep_cli.output import print_diff
from sidestep_core.doctor.report import CheckedSong, DatasetChecked, Finding


@click.command()
@input_path("folder", file_okay=False)
@click.option("--count", default=1)
def echo(folder: Path, count: int) -> None:
    """Print what was given."""
    click.echo(f"{folder.name} {count}")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, which holds two folders and a file."""
    for name in ("songs", "others"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [["songs"], ["-i", "songs"], ["--input", "songs"], ["songs", "-i", "songs"]])
@pytest.mark.usefixtures("here")
def test_a_path_may_stand_in_either_place(words: list[str]) -> None:
    result = CliRunner().invoke(echo, [*words, "--count", "2"])
    assert (result.exit_code, result.output) == (0, "songs 2\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give FOLDER"),
        (["songs", "-i", "others"], "more than one FOLDER"),
        (["nowhere"], "'nowhere' does not exist"),
        (["-i", "file.txt"], "'file.txt' is a file"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_no_path_or_too_many_is_refused(words: list[str], message: str) -> None:
    result = CliRunner().invoke(echo, words)
    assert result.exit_code == 2
    assert message in result.output


def test_the_help_names_the_argument_and_not_the_older_option() -> None:
    text = CliRunner().invoke(echo, ["--help"]).output
    assert "FOLDER" in text
    assert "--input" not in text


def test_a_difference_is_printed_below_the_name_of_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    print_diff("a/song.txt", ["-bpm: 90", "+bpm: 91", "+", "+  deep"])
    assert capsys.readouterr().out == "a/song.txt\n  - bpm: 90\n  + bpm: 91\n  +\n  +   deep\n"


def test_what_would_steer_the_terminal_is_shown_as_a_sign(capsys: pytest.CaptureFixture[str]) -> None:
    print_diff("song.txt", ["+caption: \x1b[2J\x07gone\x7f\tstays"])
    assert capsys.readouterr().out == "song.txt\n  + caption: ␛[2J␇gone␡\tstays\n"


def song(name: str, seconds: float, language: str = "") -> CheckedSong:
    return CheckedSong(name=name, seconds=seconds, prompt="p", lyrics="l", language=language)


def test_lengths_are_bars_in_proportion_and_one_song_can_always_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    songs = (song("a", 10), *(song(str(n), 100) for n in range(200)))
    print_checked(DatasetChecked(songs=songs, findings=()))
    assert capsys.readouterr().out.splitlines()[1:5] == [
        "  0:00 to 0:15  █ 1",
        "  0:15 to 0:30  0",
        "  0:30 to 1:00  0",
        f"  1:00 to 2:00  {'█' * 40} 200",
    ]


def test_languages_are_counted_the_commonest_first(capsys: pytest.CaptureFixture[str]) -> None:
    songs = (song("a", 9, "de"), song("b", 9, "en"), song("c", 9, "en"), song("d", 9))
    print_checked(DatasetChecked(songs=songs, findings=()))
    assert "lyrics look like en (2), de (1)\n" in capsys.readouterr().out


def test_a_set_of_nothing_is_said_to_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_checked(DatasetChecked(songs=(), findings=()))
    assert capsys.readouterr().out == "0 usable songs, 0.0 s of audio\npreprocessing would drop nothing\n"


def test_what_could_not_be_looked_at_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    print_checked(DatasetChecked(songs=(), findings=(), notes=("languages were not guessed",)))
    assert capsys.readouterr().err == "warning: languages were not guessed\n"


def test_findings_that_cost_nothing_are_no_loss(capsys: pytest.CaptureFixture[str]) -> None:
    findings = (Finding(song="a", kind="clipped", reason="r"), Finding(song="a", kind="cut lyrics", reason="r"))
    print_checked(DatasetChecked(songs=(song("a", 9),), findings=findings))
    assert capsys.readouterr().out.endswith("preprocessing would drop nothing\n")


def test_json_has_songs_findings_lengths_and_what_is_dropped() -> None:
    finding = Finding(song="a", kind="silent", reason="r", dropped=True)
    assert to_json(DatasetChecked(songs=(song("b", 20),), findings=(finding,))) == {
        "songs": [{"name": "b", "seconds": 20, "prompt": "p", "lyrics": "l", "language": ""}],
        "findings": [{"song": "a", "kind": "silent", "reason": "r", "dropped": True}],
        "lengths": [{"length": "0:15 to 0:30", "songs": 1}],
        "notes": [],
        "dropped": 1,
    }
