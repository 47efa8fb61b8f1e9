"""`sidestep stems`, with the real separator on a small model."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.testing.providers import write_tone

RunCli = Callable[..., Any]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model."""
    tiny = pytest.importorskip("tiny_demucs")
    return Path(tiny.write_tiny_demucs(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with one song."""
    root = tmp_path / "songs"
    root.mkdir()
    write_tone(root / "a.wav", 0.5)
    return root


def test_songs_are_taken_apart_once(run_cli: RunCli, songs: Path, weights: Path) -> None:
    first = run_cli("stems", "-i", songs, "--weights", weights)
    place = songs.with_name("songs_stems")
    assert (first.code, first.out) == (0, f"stems of 1 song in {place}\n")
    assert first.err.splitlines() == ["taking 1 song apart", "a.wav (0.5 s)"]
    names = {path.stem for path in (place / "a").glob("*.flac")}
    assert names == {"vocals", "drums", "bass", "other"}
    again = run_cli("stems", "--audio-dir", songs)
    assert (again.code, again.err) == (0, "")
    assert again.out == f"stems of 0 songs in {place}, those of 1 song were there already\n"


def test_missing_weights_are_one_line(run_cli: RunCli, songs: Path, tmp_path: Path) -> None:
    result = run_cli("stems", "-i", songs, "--weights", tmp_path / "nothing")
    assert result.code == 2
    (line,) = [line for line in result.err.splitlines() if "no weights" in line]
    assert f"into '{tmp_path / 'nothing'}', or say --allow-download" in line


def test_a_bad_song_is_code_1_and_only_bad_ones_2(run_cli: RunCli, songs: Path, weights: Path) -> None:
    (songs / "b.wav").write_text("no audio")
    result = run_cli("stems", "-i", songs, "--weights", weights)
    assert result.code == 1
    assert "warning: b.wav: " in result.err
    assert result.out.endswith(", 1 song could not be taken apart\n")
    (songs / "a.wav").unlink()
    assert run_cli("stems", "-i", songs, "--weights", weights).code == 2


def test_json_has_a_line_for_each_event(run_cli: RunCli, songs: Path, weights: Path) -> None:
    result = run_cli("stems", "-i", songs, "--weights", weights, "--json")
    assert [json.loads(line)["event"] for line in result.out.splitlines()] == [
        "stage-started",
        "song-finished",
        "stems-finished",
    ]


def test_the_separators_settings_stand_in_the_help(run_cli: RunCli) -> None:
    shown = run_cli("stems", "--help").out
    assert "--separator" in shown
    assert "--allow-download" in shown


def test_published_names_of_the_folder_mean_the_same(run_cli: RunCli, songs: Path) -> None:
    for flag in ("-i", "--input", "--audio-dir"):
        result = run_cli("stems", flag, songs / "nowhere")
        assert (result.code, result.err) == (2, f"error: no folder '{songs / 'nowhere'}'\n")


def test_an_unknown_separator_is_said_with_what_there_is(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("stems", "-i", songs, "--separator", "spleeter")
    assert result.code == 2
    assert "demucs" in result.err


def test_stems_among_the_songs_are_refused(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("stems", "-i", songs, "-o", songs / "stems")
    assert result.code == 2
    assert "lies in the folder of songs" in result.err
    assert not (songs / "stems").exists()


@pytest.fixture
def many(songs: Path) -> Path:
    """A folder with five songs."""
    for number in range(5):
        write_tone(songs / f"{number}.wav", 1.0 + number / 10)
    (songs / "a.wav").unlink()
    return songs


def first_finished(process: Any) -> str:
    """Wait until a song is finished, and return its name."""
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "song-finished":
            return str(event["name"])
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_whatever_ends_it_finished_songs_stay_and_the_rest_follows(
    start: Callable[..., Any], run_cli: RunCli, many: Path, weights: Path, number: int, code: int
) -> None:
    process = start("stems", "-i", many, "--weights", weights, "--json")
    name = first_finished(process)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == code
    output = many.with_name("songs_stems")
    done = {path.name for path in output.iterdir() if not path.name.startswith(".")}
    assert name.removesuffix(".wav") in done
    for folder in done:
        assert {path.name for path in (output / folder).iterdir()} == {
            "vocals.flac",
            "drums.flac",
            "bass.flac",
            "other.flac",
            "stems.json",
        }
    again = run_cli("stems", "-i", many, "--weights", weights)
    assert again.code == 0
    assert {path.name for path in output.iterdir() if not path.name.startswith(".")} == set("01234")
