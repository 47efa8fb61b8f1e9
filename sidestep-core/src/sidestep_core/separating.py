"""Take the songs of a folder apart: a folder of FLAC files for each, whole or not there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sidestep_core.dataset import find_audio
from sidestep_core.errors import AudioError, Cancelled, ConfigError, DatasetError
from sidestep_core.events import Event, SongFinished, SongRejected, StageStarted, StemsFinished
from sidestep_core.files import atomic_folder, hash_file
from sidestep_core.interfaces import Separator
from sidestep_core.options import config, option
from sidestep_core.requests import Chosen
from sidestep_core.specs import BuildContext, SeparatorType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGE = "separate"
NOTE = "stems.json"


@config
class StemsConfig:
    """Which songs are taken apart, and where their stems go."""

    input: Path | None = option(
        default=None, short="-i", aliases=("--audio-dir",), help="Folder of songs, searched with its subfolders."
    )
    output: Path | None = option(
        default=None, short="-o", help="Folder for the stems; beside the songs' folder, with '_stems' at its end."
    )
    overwrite: bool = option(default=False, help="Make stems anew that are there already.")


def separate(
    config: StemsConfig, separator: Chosen[SeparatorType], *, cancelled: Callable[[], bool]
) -> Iterator[Event]:
    """Take songs apart, one after the other, and write each song's stems as soon as they are there.

    A song is left alone whose stems are there and were made of just this audio.

    Args:
        config: which songs, and where stems go.
        separator: what takes them apart.
        cancelled: asked often; the song at hand is given up, finished ones stay.

    Yields:
        The stage, finished and rejected songs, and at the end `StemsFinished`.

    Raises:
        ConfigError: no folder of songs is named, or the stems would land among them.
        DatasetError: the folder is missing or holds no songs.
        CheckpointError: weights are missing.
        Cancelled: the user asked to stop.
    """
    root, output = _folders(config)
    places = _places(root, output)
    open_songs = {song: place for song, place in places.items() if config.overwrite or not _is_there(song, place)}
    yield StageStarted(stage=STAGE, total=len(open_songs))
    rejected = []
    if open_songs:
        with separator.build(BuildContext()) as entered:
            for song, place in open_songs.items():
                event = _separate_song(song, place, song.relative_to(root).as_posix(), entered, cancelled)
                rejected += [event] if isinstance(event, SongRejected) else []
                yield event
    yield StemsFinished(
        written=len(open_songs) - len(rejected),
        complete=len(places) - len(open_songs),
        rejected=tuple(rejected),
        output=output,
    )


def _folders(config: StemsConfig) -> tuple[Path, Path]:
    if config.input is None:
        raise ConfigError("no songs: give --input, a folder")
    root = config.input
    output = config.output or root.resolve().with_name(f"{root.resolve().name}_stems")
    if output.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--output '{output}' lies in the folder of songs: stems would be taken for songs")
    return root, output


def _places(root: Path, output: Path) -> dict[Path, Path]:
    """Return a folder for each song, named like it; with its ending where songs differ in nothing else."""
    songs = find_audio(root)
    if not songs:
        raise DatasetError(f"no audio in '{root}'")
    shared = Counter(song.with_suffix("") for song in songs)
    named = {song: song if shared[song.with_suffix("")] > 1 else song.with_suffix("") for song in songs}
    return {song: output / place.relative_to(root) for song, place in named.items()}


def _is_there(song: Path, place: Path) -> bool:
    try:
        noted = json.loads((place / NOTE).read_bytes())
        return noted["audio"] == hash_file(song) and all((place / name).is_file() for name in noted["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _separate_song(
    song: Path, place: Path, name: str, separator: Separator, cancelled: Callable[[], bool]
) -> SongFinished | SongRejected:
    from sidestep_core.audio.constants import SAMPLE_RATE
    from sidestep_core.audio.decode import decode

    if cancelled():
        raise Cancelled("stopped")
    try:
        audio = decode(song)
        stems = separator.separate(audio, cancelled)
        with atomic_folder(place) as folder:
            _write(folder, stems, separator.rate, hash_file(song))
    except (AudioError, OSError) as error:
        return SongRejected(name=name, reason=str(error))
    return SongFinished(stage=STAGE, name=name, audio_seconds=audio.shape[1] / SAMPLE_RATE)


def _write(folder: Path, stems: Mapping[str, NDArray[np.float32]], rate: int, audio: str) -> None:
    """Write stems as FLAC of 24 bits, and what they were made of."""
    import soundfile

    files: Sequence[str] = [f"{stem}.flac" for stem in stems]
    for name, samples in zip(files, stems.values(), strict=True):
        soundfile.write(folder / name, samples.clip(-1, 1).T, rate, format="FLAC", subtype="PCM_24")
    (folder / NOTE).write_text(json.dumps({"audio": audio, "files": files}, indent=2) + "\n", encoding="utf-8")
