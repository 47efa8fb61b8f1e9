"""What a song is to the model: one typed record, made from what a sidecar says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import attrs

from sidestep_core.sidecars import Sidecar

TagPosition = Literal["prepend", "append", "replace"]
INSTRUMENTAL = "[Instrumental]"
UNKNOWN_LANGUAGE = "unknown"
PromptOverride = Literal["", "caption", "genre"]
T = TypeVar("T")


@attrs.frozen
class Problem:
    """Something about a file that cannot be used as it is; a song that is `lost` is not in the set."""

    path: Path
    reason: str
    lost: bool = False

    def __str__(self) -> str:
        # what is wrong with a sidecar names it already
        named = self.reason.startswith(str(self.path.with_suffix("")))
        return self.reason if named else f"{self.path}: {self.reason}"


@attrs.frozen(kw_only=True)
class Song:
    """One song and how it is described to the model.

    Attributes:
        path: the audio file.
        name: unique in its set: the path below the set's folder, with `/` and the extension.
        caption: description; made from the file name where there is none.
        lyrics: `[Instrumental]` where there are none.
        bpm: as written, "" if unknown; so are `genre`, `key` and `signature`.
        language: of the lyrics, "unknown" if it is.
        custom_tag: the song's own trigger tag; "" takes the set's.
        prompt_override: always describe by "caption" or by "genre"; "" lets the set's ratio decide.
        repeat: visits in one epoch.
        duration: seconds as somebody noted them; the audio itself is the authority.
    """

    path: Path
    name: str
    caption: str
    lyrics: str = INSTRUMENTAL
    genre: str = ""
    bpm: str = ""
    key: str = ""
    signature: str = ""
    language: str = UNKNOWN_LANGUAGE
    instrumental: bool = True
    custom_tag: str = ""
    prompt_override: PromptOverride = ""
    repeat: int = 1
    duration: float | None = None


@attrs.frozen(kw_only=True)
class SongSet:
    """Songs in a fixed order, the settings they share, and what could not be used."""

    songs: tuple[Song, ...]
    name: str
    custom_tag: str = ""
    tag_position: TagPosition = "prepend"
    genre_ratio: int = 0
    problems: tuple[Problem, ...] = ()


def make_song(path: Path, name: str, sidecar: Sidecar) -> tuple[Song, list[Problem]]:
    """Return the song that a sidecar describes, and the values in it that mean nothing and got their default."""
    problems: list[Problem] = []

    def read(key: str, convert: Callable[[str], T | None], wanted: str, default: T) -> T:
        text = getattr(sidecar, key)
        value = convert(text)
        if text and value is None:
            problems.append(Problem(path, f"{key} is '{text}'; it must be {wanted}"))
        return default if value is None else value

    flagged = read("is_instrumental", _to_bool, "true or false", None)
    song = Song(
        path=path,
        name=name,
        caption=sidecar.caption or caption_from_name(path),
        lyrics=sidecar.lyrics or INSTRUMENTAL,
        genre=sidecar.genre,
        bpm=sidecar.bpm,
        key=sidecar.key,
        signature=sidecar.signature,
        language=sidecar.language or UNKNOWN_LANGUAGE,
        instrumental=_is_instrumental(flagged, sidecar.lyrics),
        custom_tag=sidecar.custom_tag or sidecar.trigger,
        prompt_override=read("prompt_override", _to_override, "caption or genre", ""),
        repeat=read("repeat", _to_count, "a whole number of at least 1", 1),
        duration=read("duration", _to_seconds, "a number of seconds", 0.0) or None,
    )
    return song, problems


def is_text(value: object) -> bool:
    """Tell whether it is a string that UTF-8 can hold: names of files and escapes in JSON may hold others."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def caption_from_name(path: Path) -> str:
    """Return the caption of a song that has none: its file name, with spaces for `_` and `-`."""
    return path.stem.replace("_", " ").replace("-", " ")


def is_labeled(song: Song) -> bool:
    """Tell whether a song has a caption of its own."""
    return song.caption != caption_from_name(song.path)


def _is_instrumental(flagged: bool | None, lyrics: str) -> bool:
    marked = INSTRUMENTAL.lower() in lyrics.lower()
    sung = any(line.strip() and not line.lstrip().startswith("[") for line in lyrics.split("\n"))
    if flagged is None:
        return not lyrics or (marked and not sung)
    # other tools set the flag as soon as one section of a song is marked instrumental
    return flagged and not (marked and sung)


def _to_bool(text: str) -> bool | None:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower())


def _to_override(text: str) -> PromptOverride | None:
    known: dict[str, PromptOverride] = {"caption": "caption", "genre": "genre"}
    return known.get(text.lower())


def _to_count(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) >= 1 else None


def _to_seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
