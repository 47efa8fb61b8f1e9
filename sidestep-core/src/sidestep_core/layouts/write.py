"""What sidecars say, in the layouts that other programs read: texts in a new folder, to be put beside the songs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import attrs

from sidestep_core.dataset import walk_audio
from sidestep_core.errors import AudioError, ConfigError, DatasetError
from sidestep_core.files import atomic_folder
from sidestep_core.prompts import with_tag
from sidestep_core.sidecars import Sidecar, read_sidecar
from sidestep_core.songs import INSTRUMENTAL, Problem, caption_from_name

Layout = Literal["ace-step", "simpletuner", "ai-toolkit", "csv"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
Seconds = Callable[[Path], float]

_COLUMNS = (
    *("caption", "genre", "bpm", "key", "signature", "language", "is_instrumental", "custom_tag", "prompt_override"),
    *("repeat", "tags", "duration", "lyrics"),
)


@attrs.frozen
class _Described:
    """A song, its path below the folder, and what its sidecar says."""

    audio: Path
    name: Path
    sidecar: Sidecar


@attrs.frozen(kw_only=True)
class Written:
    """What was written: how many files, for how many songs, and what could not be."""

    files: int
    songs: int
    problems: tuple[Problem, ...]


def write_layout(root: Path, layout: Layout, output: Path, *, seconds: Seconds) -> Written:
    """Write what the sidecars of a folder say as another program reads it.

    Args:
        root: folder of songs, searched with its subfolders.
        layout: whose.
        output: folder to make; it gets the same subfolders.
        seconds: gives the length of an audio file.

    Raises:
        ConfigError: there is something in the output folder.
        DatasetError: there are no songs, or the folder cannot be listed.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"'{output}' is there and not empty; name a new folder with --output")
    songs: list[_Described] = []
    problems: list[Problem] = []
    for audio, names in sorted(walk_audio(root), key=lambda found: found[0]):
        try:
            sidecar = read_sidecar(audio, among=names) or Sidecar()
        except DatasetError as error:
            problems.append(Problem(audio, str(error), lost=True))
            continue
        songs.append(_Described(audio, audio.relative_to(root), sidecar))
    if not songs:
        raise DatasetError(f"no songs with readable sidecars in '{root}'")
    texts = _TEXTS[layout](songs, seconds, problems)
    files: set[Path] = set()
    with atomic_folder(output) as folder:
        for name, text in texts:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            files.add(path)
    return Written(files=len(files), songs=len(songs), problems=tuple(problems))


Texts = Iterator[tuple[Path, str]]


def _ace_step(songs: list[_Described], seconds: Seconds, problems: list[Problem]) -> Texts:
    """Yield `song.caption.txt`, `song.lyrics.txt` and all else in `song.json`, as its numbers where it is one."""
    for song in songs:
        told = song.sidecar
        values = {"keyscale": told.key, "timesignature": told.signature, "language": told.language, "genre": told.genre}
        values |= {"custom_tag": told.custom_tag or told.trigger, "is_instrumental": told.is_instrumental}
        known = {"bpm": int(told.bpm) if told.bpm.isdecimal() else told.bpm} | values
        if told.caption:
            yield _beside(song, ".caption.txt"), told.caption
        if told.lyrics:
            yield _beside(song, ".lyrics.txt"), told.lyrics
        yield _beside(song, ".json"), json.dumps({k: v for k, v in known.items() if v}, ensure_ascii=False, indent=2)


def _simpletuner(songs: list[_Described], seconds: Seconds, problems: list[Problem]) -> Texts:
    """Yield `song.txt`, the caption with its tag in one line, since lines are several captions, and `song.lyrics`."""
    for song in songs:
        yield _beside(song, ".txt"), " ".join(_caption(song).split())
        yield _beside(song, ".lyrics"), song.sidecar.lyrics or INSTRUMENTAL


def _ai_toolkit(songs: list[_Described], seconds: Seconds, problems: list[Problem]) -> Texts:
    """Yield `song.txt` with tags; the length, too, since that program takes one second where there is none."""
    for song in songs:
        told = song.sidecar
        values = {"CAPTION": _caption(song), "LYRICS": told.lyrics or INSTRUMENTAL, "BPM": told.bpm}
        values |= {"KEYSCALE": told.key, "TIMESIGNATURE": told.signature}
        values |= {"DURATION": _length(song.audio, seconds, problems), "LANGUAGE": told.language}
        if any(f"</{tag}>" in value for tag, value in values.items()):
            problems.append(Problem(song.audio, "a text holds a closing tag, which ends it there for ai-toolkit"))
        yield (
            _beside(song, ".txt"),
            "".join(f"<{tag}>{_block(value)}</{tag}>\n" for tag, value in values.items() if value),
        )


def _csv(songs: list[_Described], seconds: Seconds, problems: list[Problem]) -> Texts:
    """Yield one table with all known keys of sidecars."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", *_COLUMNS])
    for song in songs:
        told = attrs.evolve(song.sidecar, custom_tag=song.sidecar.custom_tag or song.sidecar.trigger)
        writer.writerow([song.name.as_posix(), *(getattr(told, column) for column in _COLUMNS)])
    yield Path("captions.csv"), table.getvalue()


_TEXTS: Mapping[Layout, Callable[[list[_Described], Seconds, list[Problem]], Texts]] = {
    "ace-step": _ace_step,
    "simpletuner": _simpletuner,
    "ai-toolkit": _ai_toolkit,
    "csv": _csv,
}


def _caption(song: _Described) -> str:
    told = song.sidecar
    return with_tag(told.caption or caption_from_name(song.audio), told.custom_tag or told.trigger, "prepend")


def _length(audio: Path, seconds: Seconds, problems: list[Problem]) -> str:
    try:
        return str(int(seconds(audio)))
    except AudioError as error:
        problems.append(Problem(audio, f"its length is not written: {error}"))
        return ""


def _block(text: str) -> str:
    return f"\n{text}\n" if "\n" in text else text


def _beside(song: _Described, suffix: str) -> Path:
    return song.name.with_name(song.name.stem + suffix)
