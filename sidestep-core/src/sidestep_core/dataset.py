"""Songs and what is known about them: from a folder with sidecars, or from a dataset file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sidestep_core.configs import SongsConfig
from sidestep_core.dataset_file import read_dataset, write_dataset
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.files import AUDIO_EXTENSIONS, is_audio
from sidestep_core.sidecars import Sidecar, read_sidecar
from sidestep_core.songs import Problem, Song, SongSet, TagPosition, is_text, make_song

__all__ = [
    "Problem",
    "Song",
    "SongSet",
    "TagPosition",
    "find_audio",
    "find_songs",
    "read_dataset",
    "scan_folder",
    "write_dataset",
]


def find_songs(config: SongsConfig) -> SongSet:
    """Return the songs that the settings name: those of the dataset file if there is one, else of the folder.

    Raises:
        ConfigError: neither is given.
        DatasetError: there is no song.
    """
    if config.dataset_json is not None:
        return read_dataset(config.dataset_json)
    if config.audio_dir is None:
        raise ConfigError("no songs: give --audio-dir or --dataset-json")
    return scan_folder(config.audio_dir)


def find_audio(root: Path) -> list[Path]:
    """Return the audio files in a folder and its subfolders, sorted; hidden files and folders are left out.

    Raises:
        DatasetError: the folder is missing or one below it cannot be listed.
    """
    return sorted(path for path, _ in walk_audio(root))


def walk_audio(root: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yield every audio file, in no order, with the names of all files in its folder.

    Raises:
        DatasetError: the folder is missing or one below it cannot be listed.
    """
    if not root.is_dir():
        raise DatasetError(f"'{root}' is not a folder" if root.exists() else f"no folder '{root}'")

    def refuse(error: OSError) -> None:
        raise DatasetError(f"cannot list folder '{error.filename}': {error.strerror}") from error

    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (real := os.path.realpath(folder)) in seen:  # a link back up would never end
            folders.clear()
            continue
        seen.add(real)
        names = frozenset(files)
        yield from (
            (path, names) for name in files if not name.startswith(".") and is_audio(path := Path(folder, name))
        )


def scan_folder(root: Path) -> SongSet:
    """Return the songs of a folder and its subfolders, described by their sidecars.

    A sidecar that cannot be read is a problem; its song stays, described by its name.

    Raises:
        DatasetError: the folder is missing, cannot be listed or holds no audio that can be named.
    """
    songs: list[Song] = []
    problems: list[Problem] = []
    for path, names in sorted(walk_audio(root), key=lambda found: found[0]):
        name = path.relative_to(root).as_posix()
        if not is_text(name):
            problems.append(Problem(path, "the file name is not valid UTF-8; rename it", lost=True))
            continue
        try:
            sidecar = read_sidecar(path, among=names) or Sidecar()
        except DatasetError as error:
            problems.append(Problem(path, str(error)))
            sidecar = Sidecar()
        song, doubts = make_song(path, name, sidecar)
        songs.append(song)
        problems += doubts
    if not songs:
        raise DatasetError(f"no audio in '{root}'; looked for {' '.join(sorted(AUDIO_EXTENSIONS))}")
    return SongSet(songs=tuple(songs), name=root.resolve().name, problems=tuple(problems))
