"""Title, artist and length of a song: from its tags, else from its name. Needs mutagen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mutagen

from sidestep_core.describing.normalise import clean_text
from sidestep_core.interfaces import Track

# what the parts are called in tags of mutagen's easy kind, and in ID3 tags of files that have none of that kind
_TITLE = ("title", "TIT2")
_ARTIST = ("artist", "TPE1", "albumartist", "TPE2")
_TRACK_NUMBER = re.compile(r"\d{1,3}(?:\.|\s*[-–—]\s|\.\s*[-–—]\s)\s*(?=\D)")
_BETWEEN = re.compile(r"\s+[-–—]\s+|\s*[–—]\s*")


def read_track(audio: Path, *, known: Mapping[str, str], default_artist: str = "") -> Track:
    """Return a song as providers get it.

    Args:
        audio: the file; one without tags, or damaged, is known by its name.
        known: what its sidecar says.
        default_artist: artist where neither tags nor name give one.
    """
    tags, seconds = _read_tags(audio)
    artist, title = _from_name(audio.stem)
    return Track(
        path=audio,
        title=_first(tags, _TITLE) or title or audio.stem,
        artist=_first(tags, _ARTIST) or artist or default_artist,
        duration=seconds,
        known={field: value for field, value in known.items() if value},
    )


def _read_tags(audio: Path) -> tuple[Mapping[str, Any], float]:
    try:
        file = mutagen.File(audio, easy=True)
    except Exception:  # damaged files bring up more than the library's own errors
        file = None
    if file is None:
        return {}, 0.0
    # a damaged header may count backwards
    return file.tags or {}, max(float(getattr(file.info, "length", 0.0) or 0.0), 0.0)


def _first(tags: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first of the tags that says something."""
    found = (_clean(str(value)) for name in names for value in _values(tags, name))
    return next(filter(None, found), "")


def _values(tags: Mapping[str, Any], name: str) -> list[Any]:
    value = tags.get(name, [])
    return list(getattr(value, "text", value))


def _from_name(stem: str) -> tuple[str, str]:
    """Return artist and title of a file name such as `Artist - Title`; the artist may be missing."""
    name = _clean(stem if " " in stem else stem.replace("_", " "))
    name = _TRACK_NUMBER.sub("", name, count=1) if _TRACK_NUMBER.match(name) else name
    first, *rest = _BETWEEN.split(name, maxsplit=1)
    return (first, rest[0]) if rest and first and rest[0] else ("", name)


def _clean(text: str) -> str:
    text = clean_text(unicodedata.normalize("NFKC", text))
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())
