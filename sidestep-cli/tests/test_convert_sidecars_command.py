"""`sidestep convert-sidecars` on real folders of other programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar
from sidestep_core.synthetic import write_songs

RunCli = Callable[..., Any]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Return a folder with a song described by JSON, one by tags, one by hand, and one by a text that may be both."""
    folder = tmp_path / "songs"
    (folder / "live").mkdir(parents=True)
    for name in ("a.wav", "live/b.mp3", "c.flac", "d.opus"):
        (folder / name).touch()
    (folder / "a.json").write_text('{"caption": "warm", "bpm": 90}')
    (folder / "live" / "b.txt").write_text("<CAPTION>loud</CAPTION>\n<LYRICS>[Verse]\nla</LYRICS>")
    (folder / "c.txt").write_text("caption: mine\n")
    (folder / "c.caption.txt").write_text("theirs")
    (folder / "d.txt").write_text("slow and sad")
    return folder


def caption(audio: Path) -> str:
    return (read_sidecar(audio) or Sidecar()).caption


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_found_is_written_and_listed_with_its_source(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("convert-sidecars", songs, "--plain-text", "caption")
    assert result.code == 0
    assert result.out == "SIDECAR     FROM\na.txt       a.json\nd.txt       d.txt\nlive/b.txt  b.txt\n"
    assert [caption(songs / name) for name in ("a.wav", "live/b.mp3", "c.flac", "d.opus")] == [
        *("warm", "loud", "mine", "slow and sad")
    ]
    assert result.err.splitlines() == [
        f"warning: {songs / 'c.flac'}: caption in c.caption.txt differs from the one in c.txt, which is used",
        "3 sidecars written, 1 said it all before",
    ]


def test_a_text_that_may_be_two_things_is_left_and_exit_code_1(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("convert-sidecars", songs)
    assert result.code == 1
    assert f"warning: {songs / 'd.txt'}: text without keys, which may be a caption or lyrics" in result.err
    assert (songs / "d.txt").read_text() == "slow and sad"


def test_a_dry_run_shows_the_lines_and_writes_nothing(run_cli: RunCli, songs: Path) -> None:
    before = contents(songs)
    result = run_cli("convert-sidecars", songs, "--dry-run", "--plain-text", "lyrics")
    assert contents(songs) == before
    assert "a.txt\n  + caption: warm\n  + genre:\n  + bpm: 90\n" in result.out
    assert "live/b.txt\n  - <CAPTION>loud</CAPTION>\n" in result.out
    assert result.err.endswith("3 sidecars would be written, 1 said it all before\n")


@pytest.mark.parametrize("flag", ["-i", "--input"])
def test_the_published_flag_names_the_source(run_cli: RunCli, songs: Path, flag: str) -> None:
    assert run_cli("convert-sidecars", flag, songs, "--plain-text", "caption", "-y").code == 0
    assert caption(songs / "a.wav") == "warm"


def test_overwriting_asks_first(run_cli: RunCli, songs: Path) -> None:
    before = contents(songs)
    result = run_cli("convert-sidecars", songs, "--plain-text", "caption", "--overwrite", typed="n\n")
    assert (result.code, contents(songs)) == (130, before)
    assert "overwrite what 4 sidecars may say already?" in result.err


@pytest.mark.parametrize("words", [("--yes", "convert-sidecars"), ("convert-sidecars", "--yes")])
def test_overwriting_keeps_what_was_there_as_a_backup(run_cli: RunCli, songs: Path, words: tuple[str, ...]) -> None:
    assert run_cli(*words, songs, "--plain-text", "caption", "--overwrite").code == 0
    assert caption(songs / "c.flac") == "theirs"
    assert (songs / "c.txt.bak").read_text() == "caption: mine\n"


def test_a_dataset_file_is_converted_and_its_settings_are_told(run_cli: RunCli, songs: Path, tmp_path: Path) -> None:
    samples = [{"audio_path": "a.wav", "genre": "rock"}, {"audio_path": "gone.wav"}]
    metadata = {"tag_position": "append", "custom_tag": "zed"}
    (tmp_path / "list.json").write_text(json.dumps({"metadata": metadata, "samples": samples}))
    result = run_cli("convert-sidecars", "list.json", "--audio-dir", songs)
    assert result.code == 1
    assert result.out == "SIDECAR  FROM\na.txt    a.json, list.json\n"
    assert "entry 2: no file 'gone.wav'" in result.err
    assert "of all songs it says: give 'sidestep preprocess' --tag-position append\n" in result.err
    assert (read_sidecar(songs / "a.wav") or Sidecar()).custom_tag == "zed"


def test_a_table_is_converted(run_cli: RunCli, songs: Path) -> None:
    (songs / "t.csv").write_text('file,genre,lyrics\nlive/b.mp3,punk,"one, two"\n')
    assert run_cli("convert-sidecars", songs / "t.csv").code == 0
    assert (read_sidecar(songs / "live" / "b.mp3") or Sidecar()).genre == "punk"


def test_a_folder_with_nothing_to_convert_is_said_to_have_none(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    result = run_cli("convert-sidecars", tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "nothing to convert\n")


@pytest.mark.parametrize(
    ("layout", "name", "text"),
    [
        ("simpletuner", "01-synthwave.txt", "zed, driving synthwave"),
        ("ai-toolkit", "01-synthwave.txt", "<DURATION>1</DURATION>"),
        ("ace-step", "01-synthwave.caption.txt", "driving synthwave"),
        ("csv", "captions.csv", "02-waltz.flac"),
    ],
)
def test_another_layout_is_written_into_a_folder_of_its_own(
    run_cli: RunCli, tmp_path: Path, layout: str, name: str, text: str
) -> None:
    write_songs(tmp_path / "songs", seconds=[1.3, 0.5])
    run_cli("tags", "add", "songs", "--tag", "zed")
    result = run_cli("convert-sidecars", "songs", "--to", layout, "--output", "out")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("for 2 songs in out\n")
    assert text in (tmp_path / "out" / name).read_text("utf-8")


def test_a_length_that_cannot_be_told_is_a_warning_and_exit_code_1(run_cli: RunCli, songs: Path) -> None:
    write_sidecar(songs / "d.opus", Sidecar(caption="c"))
    result = run_cli("convert-sidecars", songs, "--to", "ai-toolkit", "--output", "out")
    assert (result.code, result.err.count("its length is not written: empty file")) == (1, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give SOURCE"),
        (("nowhere",), "'nowhere' does not exist"),
        (("songs/a.wav",), "'songs/a.wav' is no folder, no dataset file (.json) and no table (.csv)"),
        (("songs/a.json",), "'songs/a.json' is no dataset file"),
        (("songs", "--audio-dir", "songs"), "--audio-dir is for dataset files and tables"),
        (("songs", "--plain-text", "words"), "'words' is not one of 'caption', 'lyrics'"),
        (("songs", "--to", "csv"), "--to and --output go together"),
        (("songs", "--output", "out"), "--to and --output go together"),
        (("songs", "--to", "csv", "--output", "songs"), "'songs' is there and not empty"),
        (("songs", "--to", "csv", "--output", "out", "--overwrite"), "--to takes --output alone"),
        (("songs/a.json", "--to", "csv", "--output", "out"), "--to writes the sidecars of a folder"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(
    run_cli: RunCli, songs: Path, words: tuple[str, ...], message: str
) -> None:
    before = contents(songs)
    result = run_cli("convert-sidecars", *words)
    assert (result.code, result.out, contents(songs)) == (2, "", before)
    assert message in result.err.splitlines()[0]
    assert result.err.startswith("error: ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_conversion_that_is_killed_damages_no_file_and_goes_on_where_it_was(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(200):
        (tmp_path / "many" / f"{number}.wav").touch()
        words = {"caption": f"words of {number}", "lyrics": "[Verse]\n" + "la la\n" * 2000}
        (tmp_path / "many" / f"{number}.json").write_text(json.dumps(words))
    command = [sys.executable, "-m", "sidestep_cli", "convert-sidecars", "many"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list((tmp_path / "many").glob("*.txt"))) < 20:
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = {path: path.read_bytes() for path in (tmp_path / "many").glob("*.txt")}
    assert [path.stem for path in done if caption(path.with_suffix(".wav")) != f"words of {path.stem}"] == []
    again = run_cli("convert-sidecars", "many")
    assert again.err == f"{200 - len(done)} sidecars written, {len(done)} said it all before\n"
    assert {path: path.read_bytes() for path in done} == done
