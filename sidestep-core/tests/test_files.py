"""Files and folders are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core.files import (
    AUDIO_EXTENSIONS,
    atomic_folder,
    hash_file,
    hash_text,
    is_audio,
    is_temporary,
    locate_folder,
    write_atomic,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def fill(final: Path, text: str) -> None:
    with atomic_folder(final) as folder:
        (folder / "a.txt").write_text(text)


def fill_and_stop(final: Path) -> None:
    with atomic_folder(final) as folder:
        (folder / "a.txt").write_text("half")
        raise KeyboardInterrupt


def killed(code: str, *arguments: Path) -> int:
    """Run code in another process and return how it ended."""
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False).returncode


def test_text_is_written_as_utf8_with_its_line_ends(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "é\r\n愛\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\r\n愛\n".encode()


def test_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    write_atomic(path, b"\x00new")
    assert path.read_bytes() == b"\x00new"


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_a_file_gets_the_rights_that_new_files_get(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "atomic", "x")
    plain, atomic = ((tmp_path / n).stat().st_mode for n in ("plain", "atomic"))
    assert stat.S_IMODE(atomic) == stat.S_IMODE(plain)


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("愛" * 83 + ".txt")
    write_atomic(path, "x")
    assert path.read_text() == "x"


def test_a_write_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomic(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_a_reader_during_many_writes_sees_only_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "0" * 100_000)
    code = (
        "import sys, pathlib; from sidestep_core.files import write_atomic\n"
        "for n in range(50): write_atomic(pathlib.Path(sys.argv[1]), str(n % 10) * 100_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        seen = set()
        while writer.poll() is None:
            text = path.read_text()
            seen.add((len(text), len(set(text))))
    assert seen == {(100_000, 1)}


def test_a_folder_appears_only_when_the_body_is_done(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("x")
        assert folder.parent == tmp_path
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "sub" / "a.txt").read_text() == "x"


def test_missing_parents_are_made(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b" / "out", "x")
    assert names(tmp_path / "a" / "b") == ["out"]


def test_an_existing_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale.txt").touch()
    fill(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a.txt"]


def test_a_body_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt):
        fill_and_stop(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_a_file_in_the_place_of_the_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(FileExistsError, match="out is a file"):
        fill(tmp_path / "out", "x")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_killed_writer_leaves_the_old_folder_and_a_recognisable_rest(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    code = (
        "import os, pathlib, signal, sys; from sidestep_core.files import atomic_folder\n"
        "with atomic_folder(pathlib.Path(sys.argv[1])) as f:\n"
        "    (f / 'a.txt').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert killed(code, tmp_path / "out") == -signal.SIGKILL
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if not is_temporary(p)] == ["out"]


# dies when the old folder has been renamed aside and the new one is about to be renamed in
DIE_BETWEEN_RENAMES = """
import os, pathlib, signal, sys
from sidestep_core.files import atomic_folder
renames = []
def count(event, args):
    if event == "os.rename":
        renames.append(args)
        if len(renames) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "a.txt").write_text("new")
"""


def test_a_writer_killed_between_the_renames_leaves_the_old_folder_where_it_is_found(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    assert killed(DIE_BETWEEN_RENAMES, out) == -signal.SIGKILL
    assert not out.exists()
    assert (locate_folder(out) / "a.txt").read_text() == "old"


def test_the_next_writer_puts_back_a_folder_left_aside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    killed(DIE_BETWEEN_RENAMES, out)
    with pytest.raises(KeyboardInterrupt):
        fill_and_stop(out)
    assert (out / "a.txt").read_text() == "old"


def test_a_replacement_after_an_interrupted_one_leaves_only_the_new_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "old")
    killed(DIE_BETWEEN_RENAMES, out)
    fill(out, "newest")
    assert [p for p in names(tmp_path) if not is_temporary(tmp_path / p)] == ["out"]
    assert locate_folder(out) == out
    assert (out / "a.txt").read_text() == "newest"


def test_a_folder_that_is_in_its_place_is_located_there(tmp_path: Path) -> None:
    fill(tmp_path / "out", "x")
    assert locate_folder(tmp_path / "out") == tmp_path / "out"


def test_temporary_names_are_recognised_while_they_exist(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        assert is_temporary(folder)


@pytest.mark.parametrize("name", ["out", ".hidden", "a.tmp", ".a.tmp", ".song.txt.bak", ".a.notahex!.tmp"])
def test_other_names_are_not_temporary(name: str) -> None:
    assert not is_temporary(Path(name))


def test_a_file_and_its_text_have_the_same_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("愛".encode())
    assert hash_file(tmp_path / "a") == hash_text("愛")


def test_hashes_are_32_hex_digits_that_differ_with_the_content(tmp_path: Path) -> None:
    assert len(hash_text("a")) == 32
    assert hash_text("a") != hash_text("b")
    assert hash_text("") == "cae66941d9efbd404e4d88758ea67670"


def test_a_file_name_that_is_no_valid_text_has_a_hash() -> None:
    assert len(hash_text(os.fsdecode(b"caf\xe9"))) == 32


def test_the_seven_audio_extensions_count_in_any_case() -> None:
    assert all(is_audio(Path("song" + e)) and is_audio(Path("song" + e.upper())) for e in AUDIO_EXTENSIONS)
    assert len(AUDIO_EXTENSIONS) == 7
    assert not is_audio(Path("song.txt"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "old"
