"""Files that describe many songs: dataset files and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PureWindowsPath
from typing import Any

from sidestep_core.dataset import find_audio
from sidestep_core.dataset_file import bare_name, find_sample, load_samples, repeated_names, sample_names
from sidestep_core.errors import DatasetError
from sidestep_core.files import AUDIO_EXTENSIONS, is_audio
from sidestep_core.layouts.found import Found, read_text
from sidestep_core.records import sidecar_of
from sidestep_core.songs import INSTRUMENTAL, Problem, caption_from_name

FILE_COLUMNS = ("file", "filename", "file_name", "audio_path", "audio", "path")
_DELIMITERS = ",;\t"


def read_table(path: Path, folders: Sequence[Path]) -> Iterator[tuple[Path, Found] | Problem]:
    """Yield what a dataset file or a table says about each song, or why an entry cannot be used.

    Args:
        path: a `.json` or a `.csv`.
        folders: where songs are looked for, the likeliest first; in the end also in all folders below them.

    Raises:
        DatasetError: the file cannot be read or has another shape.
    """
    rows, shared = _read_rows(path)
    repeated = repeated_names(rows)
    below: dict[str, list[Path]] | None = None
    seen: set[Path] = set()
    for number, row in enumerate(rows, 1):
        try:
            alone = bare_name(row) not in repeated
            try:
                audio = find_sample(row, *folders, by_name=alone)
            except DatasetError as error:
                if below is None:
                    below = _songs_by_name(folders)
                audio = _most_alike(row, below, error, alone=alone)
            if audio in seen:
                raise DatasetError(f"'{audio}' is in the list before; the first entry is used")
            if not is_audio(audio):
                raise DatasetError(f"'{audio}' is no audio; looked for {' '.join(sorted(AUDIO_EXTENSIONS))}")
        except DatasetError as error:
            yield Problem(path, f"entry {number}: {error}", lost=True)
            continue
        seen.add(audio)
        yield audio, _found(path, audio, row, shared)


def shared_settings(path: Path) -> str:
    """Return what a dataset file says about all songs that no sidecar can hold, as options of `preprocess`."""
    if path.suffix.lower() != ".json":
        return ""
    metadata, _ = load_samples(path)
    told = ((key, metadata.get(key)) for key in ("tag_position", "genre_ratio"))
    return " ".join(f"--{key.replace('_', '-')} {value}" for key, value in told if value not in (None, "prepend", 0))


def _found(path: Path, audio: Path, row: Mapping[str, Any], shared: Mapping[str, Any]) -> Found:
    values = {**{key: value for key, value in shared.items() if not row.get(key)}, **row}
    if row.get("labeled") is False and row.get("caption") == caption_from_name(audio):
        values["caption"] = ""  # made up from the name, and will be again
    if row.get("raw_lyrics") == "" and row.get("lyrics") == INSTRUMENTAL:
        values["lyrics"] = ""
    sidecar, doubts = sidecar_of(values)
    return Found(source=path, sidecar=sidecar, doubts=tuple(doubts))


def _read_rows(path: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if path.suffix.lower() == ".csv":
        return _read_csv(path), {}
    metadata, samples = load_samples(path)
    tag = metadata.get("custom_tag")
    return samples, {"custom_tag": tag} if tag else {}


def _read_csv(path: Path) -> list[dict[str, Any]]:
    text = read_text(path)
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # lyrics may be longer than what csv takes at first
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        named = next((name for name in FILE_COLUMNS if name in map(str.lower, header)), None)
        if named is None:
            raise DatasetError(f"{path}: no column of files; one must be called {', '.join(FILE_COLUMNS)}")
        return [_row(cells, header, named, f"{path}: line {lines.line_num}") for cells in lines if any(cells)]
    except csv.Error as error:
        raise DatasetError(f"{path}: line {lines.line_num}: {error}") from error


def _row(cells: Sequence[str], header: Sequence[str], named: str, where: str) -> dict[str, Any]:
    """Return a line of a table with its file as `audio_path`."""
    if len(cells) > len(header):
        raise DatasetError(f"{where}: {len(cells)} cells under {len(header)} headings; texts with commas need quotes")
    values = [(key, value.strip()) for key, value in zip(header, cells, strict=False) if key]
    file = next((value for key, value in values if key.lower() == named), "")
    return {**{key: value for key, value in values if key.lower() != named}, "audio_path": file}


def _songs_by_name(folders: Sequence[Path]) -> dict[str, list[Path]]:
    by_name: dict[str, list[Path]] = {}
    for path in dict.fromkeys(audio for folder in folders for audio in find_audio(folder)):
        by_name.setdefault(path.name, []).append(path)
    return by_name


def _most_alike(row: Any, songs: Mapping[str, list[Path]], error: DatasetError, *, alone: bool) -> Path:
    """Return the song whose path ends most like the one that a row names: lists stay when their folders move.

    Args:
        row: entry of the list.
        songs: all there are, by their names.
        error: raised where no song or more than one may be meant.
        alone: whether no other entry has that name; else the folder must agree, too.
    """
    wanted = PureWindowsPath(sample_names(row)[0]).parts
    agreeing = {path: _agreeing(path.parts, wanted) for path in songs.get(bare_name(row), [])}
    best = max(agreeing.values(), default=0)
    found = [path for path, count in agreeing.items() if count == best]
    if len(found) == 1 and (alone or best > 1):
        return found[0]
    more = f"; there are {len(agreeing)} of that name below" if agreeing else ""
    raise DatasetError(f"{error}{more}")


def _agreeing(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts at the ends of two paths are equal."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
