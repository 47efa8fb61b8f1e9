"""Dataset files: songs and their descriptions as one JSON file, shared with ACE-Step and Side-Step."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, get_args

from sidestep_core.errors import AudioError, DatasetError
from sidestep_core.files import hash_text, write_atomic
from sidestep_core.records import sidecar_of
from sidestep_core.songs import (
    INSTRUMENTAL,
    Problem,
    Song,
    SongSet,
    TagPosition,
    is_labeled,
    is_text,
    make_song,
)


def read_dataset(json_path: Path) -> SongSet:
    """Return the songs of a dataset file: a list of samples, or an object that holds it as `samples`.

    Audio is looked for at `audio_path` (or `filename`) as seen from the file's folder, then by its bare name in that
    folder, unless several samples have that name. What is not found is a problem.

    Raises:
        DatasetError: the file cannot be read, has another shape or names no audio that is there.
    """
    metadata, samples = load_samples(json_path)
    shared_names = repeated_names(samples)
    songs: dict[str, Song] = {}
    problems: list[Problem] = []
    for number, sample in enumerate(samples):
        try:
            path = find_sample(sample, json_path.parent, by_name=bare_name(sample) not in shared_names)
            name = _name(path, json_path.parent)
            if name in songs:
                raise DatasetError("listed more than once; the first entry is used")
            sidecar, doubts = sidecar_of(sample)
        except DatasetError as error:
            problems.append(Problem(json_path, f"samples[{number}]: {error}", lost=True))
            continue
        songs[name], more = make_song(path, name, sidecar)
        problems += [Problem(json_path, f"samples[{number}]: {doubt}") for doubt in doubts] + list(more)
    if not songs:
        first = "".join(f"\n  {p.reason}" for p in problems[:3])
        raise DatasetError(f"no usable song in '{json_path}', which lists {len(samples)}{first}")
    shared, doubts = _shared_settings(metadata)
    problems += [Problem(json_path, f"metadata: {doubt}") for doubt in doubts]
    name = str(metadata.get("name") or json_path.stem)
    return SongSet(songs=tuple(songs.values()), name=name, problems=tuple(problems), **shared)


def write_dataset(
    songs: SongSet, json_path: Path, *, created_at: str, seconds: Callable[[Path], float]
) -> tuple[Problem, ...]:
    """Write a dataset file that ACE-Step and Side-Step read, too, with paths as seen from its folder.

    Args:
        songs: what to list.
        json_path: file to write; its folder is made.
        created_at: time to note in the file, ISO 8601.
        seconds: gives the length of an audio file.

    Returns:
        Files whose length could not be told; they are listed with 0 seconds.
    """
    problems: list[Problem] = []
    samples: list[dict[str, Any]] = []
    ids: set[str] = set()
    for song in songs.songs:
        try:
            length = seconds(song.path)
        except AudioError as error:
            problems.append(Problem(song.path, str(error)))
            length = 0.0
        where = _relative(song.path, json_path.parent)
        # other programs name files by it, so two songs must never share one
        key = next(i for n in range(len(ids) + 1) if (i := hash_text(f"{where}{n or ''}")[:8]) not in ids)
        ids.add(key)
        samples.append({"id": key, "audio_path": where, **_sample_of(song, songs.custom_tag, length)})
    metadata = {
        "name": songs.name,
        "custom_tag": songs.custom_tag,
        "tag_position": songs.tag_position,
        "created_at": created_at,
        "num_samples": len(samples),
        "all_instrumental": all(song.instrumental for song in songs.songs),
        "genre_ratio": songs.genre_ratio,
    }
    content = json.dumps({"metadata": metadata, "samples": samples}, indent=2, ensure_ascii=False)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(json_path, content + "\n")
    return tuple(problems)


def load_samples(json_path: Path) -> tuple[Mapping[str, Any], list[Any]]:
    """Return what a dataset file says of the set, and its samples as they stand there.

    Raises:
        DatasetError: the file cannot be read or has another shape.
    """
    try:
        content = json.loads(json_path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise DatasetError(f"no dataset file '{json_path}'") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"cannot read dataset file '{json_path}': {error}") from error
    metadata = content.get("metadata") if isinstance(content, dict) else None
    samples = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(samples, list):
        raise DatasetError(f"'{json_path}' is no dataset file: it must be a list, or an object with a list 'samples'")
    return metadata if isinstance(metadata, dict) else {}, samples


def find_sample(sample: Any, *folders: Path, by_name: bool = True) -> Path:
    """Return the audio file of a sample: at its path as seen from one of the folders, or by its bare name in one.

    Args:
        sample: entry of a dataset file.
        folders: where it is looked for, the likeliest first.
        by_name: whether the bare name is enough; it is not where several samples share it.

    Raises:
        DatasetError: it names none, or none that is there.
    """
    given, bare = sample_names(sample)
    for folder in folders:
        for path in (folder / given, *([folder / bare] if by_name else [])):
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
                return path
    places = " or ".join(f"'{folder}'" for folder in folders)
    also = f" and no '{bare}'" if by_name else ""
    raise DatasetError(f"no file '{given}'{also} in {places}")


def repeated_names(samples: Iterable[Any]) -> frozenset[str]:
    """Return the bare names of files that several paths in the samples share: names that do not tell which is meant."""
    paths: dict[str, set[str]] = {}
    for sample in samples:
        if name := bare_name(sample):
            paths.setdefault(name, set()).add(os.path.normpath(sample_names(sample)[0]))
    return frozenset(name for name, given in paths.items() if len(given) > 1)


def bare_name(sample: Any) -> str:
    """Return the bare name of a sample's file, "" where it names none."""
    try:
        return sample_names(sample)[1]
    except DatasetError:
        return ""


def sample_names(sample: Any) -> tuple[str, str]:
    """Return the path of a sample's audio as it stands there, and the bare name of the file.

    Raises:
        DatasetError: it names none.
    """
    if not isinstance(sample, dict):
        raise DatasetError("not an object")
    given = sample.get("audio_path") or sample.get("filename")
    if not isinstance(given, str) or not given:
        raise DatasetError("names no audio_path or filename")
    if not is_text(given):
        raise DatasetError(f"{given!r} is no file name")
    # the bare name also of a path that was written on Windows
    return given, PureWindowsPath(str(sample.get("filename") or given)).name


def _name(path: Path, folder: Path) -> str:
    """Return the path below the folder; a file elsewhere gets its own name behind a mark of where it is."""
    absolute, base = (Path(os.path.abspath(p)) for p in (path, folder))  # noqa: PTH100 - resolve() would follow links
    if absolute.is_relative_to(base):
        return absolute.relative_to(base).as_posix()
    return f"@{hash_text(absolute.parent.as_posix())[:8]}/{path.name}"


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive on Windows
        return path.absolute().as_posix()


def _sample_of(song: Song, tag: str, seconds: float) -> dict[str, Any]:
    lyrics = "" if song.lyrics == INSTRUMENTAL else song.lyrics
    bpm = re.match(r"\d+", song.bpm)
    return {
        "filename": song.path.name,
        "caption": song.caption,
        "genre": song.genre,
        "lyrics": song.lyrics,
        "raw_lyrics": lyrics,
        "formatted_lyrics": "",
        "bpm": (int(bpm[0]) or None) if bpm else None,
        "keyscale": song.key,
        "timesignature": song.signature,
        "duration": int(seconds),
        "language": song.language,
        "is_instrumental": song.instrumental,
        "custom_tag": song.custom_tag or tag,
        "labeled": is_labeled(song),
        "prompt_override": song.prompt_override or None,
        "repeat": song.repeat,
    }


def _shared_settings(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    tag, position, ratio = (metadata.get(key) for key in ("custom_tag", "tag_position", "genre_ratio"))
    settings: dict[str, Any] = {}
    doubts = []
    for key, value, fits, wanted in (
        ("custom_tag", tag, is_text(tag), "text"),
        ("tag_position", position, position in get_args(TagPosition), "prepend, append or replace"),
        ("genre_ratio", ratio, type(ratio) is int and 0 <= ratio <= 100, "a whole number from 0 to 100"),
    ):
        if fits:
            settings[key] = value
        elif value is not None:
            doubts.append(f"{key} is {value!r}; it must be {wanted}")
    return settings, doubts
