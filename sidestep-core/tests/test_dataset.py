"""Every song of a folder is found once, under its own name, and nothing is dropped in silence."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from sidestep_core.dataset import SongSet, find_audio, scan_folder
from sidestep_core.errors import DatasetError


def fill(root: Path, **files: str) -> Path:
    """Write files given as path=text, with `__` for a slash and `_` for the dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def captions(songs: SongSet) -> dict[str, str]:
    return {song.name: song.caption for song in songs.songs}


def test_songs_of_equal_names_in_different_folders_share_nothing(tmp_path: Path) -> None:
    fill(tmp_path, a__song_wav="", b__song_wav="", a__song_txt="caption: one", b__song_txt="caption: two")
    assert captions(scan_folder(tmp_path)) == {"a/song.wav": "one", "b/song.wav": "two"}


def test_songs_that_differ_in_the_extension_are_two_with_one_sidecar(tmp_path: Path) -> None:
    fill(tmp_path, song_wav="", song_mp3="", song_txt="caption: both")
    assert captions(scan_folder(tmp_path)) == {"song.mp3": "both", "song.wav": "both"}


def test_all_kinds_of_audio_are_found_in_sorted_order(tmp_path: Path) -> None:
    fill(tmp_path, d_opus="", b_aac="", c__x_FLAC="", a_m4a="", e_ogg="", notes_md="", song_pdf="")
    assert [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)] == [
        "a.m4a",
        "b.aac",
        "c/x.FLAC",
        "d.opus",
        "e.ogg",
    ]


def test_hidden_files_and_folders_are_no_songs(tmp_path: Path) -> None:
    for name in ("._song.wav", "song.wav", ".trash/old.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_audio(tmp_path)] == ["song.wav"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_linked_folder_is_searched_and_a_link_back_up_ends(tmp_path: Path) -> None:
    root = fill(tmp_path / "root", a_wav="").resolve()
    fill(tmp_path / "elsewhere", b_wav="")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "up").symlink_to(root)
    assert [path.relative_to(root).as_posix() for path in find_audio(root)] == ["a.wav", "linked/b.wav"]


def test_a_sidecar_that_cannot_be_read_is_a_problem_and_its_song_stays(tmp_path: Path) -> None:
    fill(tmp_path, good_wav="", good_txt="caption: fine")
    (tmp_path / "my_song.wav").touch()
    (tmp_path / "my_song.txt").write_bytes(b"caption: caf\xe9")
    songs = scan_folder(tmp_path)
    assert captions(songs) == {"good.wav": "fine", "my_song.wav": "my song"}
    assert [(p.path.name, "not UTF-8 text" in p.reason) for p in songs.problems] == [("my_song.wav", True)]


def test_a_value_that_means_nothing_is_a_problem_of_the_set(tmp_path: Path) -> None:
    songs = scan_folder(fill(tmp_path, a_wav="", a_txt="repeat: often"))
    assert str(songs.problems[0]) == f"{tmp_path / 'a.wav'}: repeat is 'often'; it must be a whole number of at least 1"


def test_names_in_any_script_and_form_are_kept(tmp_path: Path) -> None:
    names = ["夜に駆ける.wav", "🎹.mp3", unicodedata.normalize("NFD", "Été.wav")]
    for name in names:
        (tmp_path / name).touch()
    assert sorted(song.name for song in scan_folder(tmp_path).songs) == sorted(names)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "good.wav").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")).touch()
    songs = scan_folder(tmp_path)
    assert [song.name for song in songs.songs] == ["good.wav"]
    assert songs.problems[0].reason == "the file name is not valid UTF-8; rename it"


def test_a_set_is_called_as_its_folder_and_shares_no_settings(tmp_path: Path) -> None:
    songs = scan_folder(fill(tmp_path / "my album", a_wav=""))
    assert (songs.name, songs.custom_tag, songs.tag_position, songs.genre_ratio) == ("my album", "", "prepend", 0)


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "no folder"), ("a.wav", "is not a folder"), ("empty", r"no audio in .*\.flac")]
)
def test_what_holds_no_songs_is_refused(tmp_path: Path, name: str, message: str) -> None:
    fill(tmp_path, a_wav="")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=message):
        scan_folder(tmp_path / name)


def test_a_scan_opens_each_sidecar_once_and_looks_for_no_other(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_txt="bpm: 90", b_wav="", c_wav="", c_caption_txt="warm", d_wav="", d_txt="caption: x")
    code = (
        "import sys; from pathlib import Path; from sidestep_core.dataset import scan_folder\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: event == 'open' and opened.append(str(args[0])))\n"
        "scan_folder(Path(sys.argv[1]))\n"
        "print(sorted(Path(name).name for name in opened if name.startswith(sys.argv[1])))"
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout == "['a.txt', 'c.caption.txt', 'd.txt']\n"


def test_reading_songs_imports_nothing_heavy() -> None:
    code = (
        "import sys, sidestep_core.dataset, sidestep_core.prompts, sidestep_core.tags\n"
        "print([m for m in ('torch', 'numpy', 'soundfile', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
