"""Files that are either whole or absent: atomic writes of files and folders, content hashes, audio extensions."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

AUDIO_EXTENSIONS = frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac"})
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8,16}\.tmp", re.DOTALL)


def is_audio(path: Path) -> bool:
    """Tell whether the name ends like a sound file's."""
    return path.suffix.lower() in AUDIO_EXTENSIONS


def is_temporary(path: Path) -> bool:
    """Tell whether the name is one that `write_atomic` and `atomic_folder` use before something is finished."""
    return _TEMPORARY.fullmatch(path.name) is not None


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Args:
        path: file to write; its folder must exist.
        data: content; text is written as UTF-8 with its line ends as they are.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = _beside(path, secrets.token_hex(4))
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside `final` that takes its name when the body succeeds and vanishes when it fails.

    An existing `final` is replaced. No portable call swaps two folders, so it is renamed aside, the new one renamed
    in, and the old one removed. Between the two renames the complete old folder has another, fixed name:
    `locate_folder` finds it there, and the next `atomic_folder` for the same name puts it back.

    Raises:
        FileExistsError: `final` is there and is not a folder.
    """
    if final.exists() and not final.is_dir():
        raise FileExistsError(f"{final} is a file; a folder is to be written there")
    _restore(final)
    temporary = _beside(final, secrets.token_hex(4))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync_tree(temporary)
        _swap_in(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def place_files(finished: Path, final: Path) -> None:
    """Move what is in a finished folder to its place: the folder itself, or each file if there is one already.

    Other files that are there stay.

    Args:
        finished: folder on the same file system; it is gone or empty of files afterwards.
        final: where its content goes.
    """
    _sync_tree(finished)
    if not final.exists():
        finished.rename(final)
    else:
        for path in sorted(path for path in finished.rglob("*") if path.is_file()):
            place = final / path.relative_to(finished)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    _sync_folder(final.parent)


def locate_folder(final: Path) -> Path:
    """Return where the folder `final` is now: under its name, or aside if its replacement was interrupted."""
    aside = _aside(final)
    return aside if not final.exists() and aside.exists() else final


def copy_folder(source: Path, target: Path) -> None:
    """Copy what a folder holds, as hard links where they can be: for files that are only ever replaced whole."""
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def hash_file(path: Path) -> str:
    """Return the content's BLAKE2b as 32 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def hash_text(text: str) -> str:
    """Return the BLAKE2b of the text's UTF-8 as 32 hex digits."""
    # file names may hold what is no valid UTF-8; they have a hash, too
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # across file systems, or on one without links
        shutil.copy2(source, target)


def _beside(path: Path, token: str) -> Path:
    # the name is cut because it may already be as long as a file system allows
    return path.with_name(f".{path.name[:32]}.{token}.tmp")


def _aside(final: Path) -> Path:
    return _beside(final, hash_text(final.name)[:16])


def _restore(final: Path) -> None:
    aside = _aside(final)
    if not aside.exists():
        return
    if final.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(final)


def _swap_in(temporary: Path, final: Path) -> None:
    aside = _aside(final)
    if final.exists():
        final.rename(aside)
    try:
        temporary.rename(final)
    except BaseException:
        _restore(final)
        raise
    _sync_folder(final.parent)
    # what cannot be removed now (open elsewhere, on Windows) is removed by the next replacement
    shutil.rmtree(aside, ignore_errors=True)


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            with (Path(folder) / name).open("r+b") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
