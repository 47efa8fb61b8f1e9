"""Sidecars: the text file beside a song that says what it is. One record, one parser, one writer.

A sidecar is UTF-8 text of `key: value` lines. A line that does not begin with a known key continues the value before
it, so `Mood: dark` inside a caption stays in the caption; after any other value a line with an unknown key belongs to
nothing known and is kept as it is. After `lyrics:` everything to the end is lyrics. Lines that begin with `#` are
comments. A line of a value that would be read as a key or a comment is written with a backslash in front, which readers
that do not know this take as part of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from sidestep_core.errors import DatasetError
from sidestep_core.files import write_atomic

MergePolicy = Literal["fill_missing", "overwrite_caption", "overwrite_lyrics", "overwrite_all"]

ALIASES: Mapping[str, str] = {
    "tempo": "bpm",
    "keyscale": "key",
    "scale": "key",
    "timesignature": "signature",
    "time_signature": "signature",
    "sig": "signature",
    "lang": "language",
    "repeats": "repeat",
}
_ALWAYS_WRITTEN = ("caption", "genre", "bpm", "key", "signature", "is_instrumental")
_WRITTEN_IF_SET = ("custom_tag", "duration", "language", "prompt_override", "repeat", "tags", "trigger")
_KEYS = "|".join((*_ALWAYS_WRITTEN, *_WRITTEN_IF_SET, "lyrics", *ALIASES))
_KEY_LINE = re.compile(rf"[ \t]*({_KEYS})[ \t]*:", re.IGNORECASE | re.ASCII)
_COMMENT_LINE = re.compile(r"[ \t]*#")
_ANY_KEY_LINE = re.compile(r"[ \t]*[\w-][\w -]*:")
# what must not stand at the start of a line of a value, behind any backslashes that escape it already
_SPECIAL_LINE = re.compile(rf"\\*(?:\ufeff|[ \t]*#|[ \t]*(?:{_KEYS})[ \t]*:)", re.IGNORECASE | re.ASCII)
_SPECIAL_LINE_OF_A_WORD = re.compile(rf"\\*(?:\ufeff|[ \t]*#|{_ANY_KEY_LINE.pattern})")
# values whose lines may look like an unknown key
_PROSE = frozenset({"caption", "other"})
_OVERWRITTEN: dict[MergePolicy, frozenset[str]] = {
    "fill_missing": frozenset(),
    "overwrite_caption": frozenset({"caption"}),
    "overwrite_lyrics": frozenset({"lyrics"}),
    "overwrite_all": frozenset({*_ALWAYS_WRITTEN, "lyrics"}),
}


def _to_text(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\r\n", "\n").replace("\r", "\n").strip()


def _to_comments(value: str) -> str:
    return "\n".join(line.strip() for line in _to_text(value).split("\n")).strip()


@attrs.frozen(kw_only=True)
class Sidecar:
    """What is known about one song, as text; empty means not known.

    Values are kept as they were written (`bpm: 120.5`, `repeat: twice`), so that rewriting a file loses nothing;
    `dataset` gives them their types. Numbers and booleans may be passed. Line ends become LF and whitespace around
    a value is dropped, since the file format cannot tell it from layout.

    Attributes:
        custom_tag: trigger tags, separated by commas.
        trigger: older name of `custom_tag`; used where that is empty.
        tags: kept for other programs, not used.
        other: lines that belong to no known key, unknown keys among them; kept as they are, not used.
        comments: the `#` lines before the lyrics, without the `#`.
    """

    caption: str = attrs.field(default="", converter=_to_text)
    genre: str = attrs.field(default="", converter=_to_text)
    bpm: str = attrs.field(default="", converter=_to_text)
    key: str = attrs.field(default="", converter=_to_text)
    signature: str = attrs.field(default="", converter=_to_text)
    language: str = attrs.field(default="", converter=_to_text)
    is_instrumental: str = attrs.field(default="", converter=_to_text)
    custom_tag: str = attrs.field(default="", converter=_to_text)
    trigger: str = attrs.field(default="", converter=_to_text)
    tags: str = attrs.field(default="", converter=_to_text)
    prompt_override: str = attrs.field(default="", converter=_to_text)
    repeat: str = attrs.field(default="", converter=_to_text)
    duration: str = attrs.field(default="", converter=_to_text)
    lyrics: str = attrs.field(default="", converter=_to_text)
    other: str = attrs.field(default="", converter=_to_text)
    comments: str = attrs.field(default="", converter=_to_comments)


def parse(text: str) -> Sidecar:
    """Return what the text of a sidecar says; text that is not made of keys is lyrics."""
    fields = _parse_fields(text)
    return Sidecar(lyrics=text.removeprefix("\ufeff")) if fields is None else Sidecar(**fields)


def is_keyed(text: str) -> bool:
    """Tell whether a text is made of keys; one that is not is lyrics to `parse`."""
    return _parse_fields(text) is not None


def render(sidecar: Sidecar) -> str:
    """Return the text of a sidecar: what `parse` reads back as an equal record."""
    lines = [f"# {line}".rstrip() for line in sidecar.comments.split("\n") if sidecar.comments]
    if sidecar.other:
        lines += (_escape(line, "other") for line in sidecar.other.split("\n"))
    for name in (*_ALWAYS_WRITTEN, *_WRITTEN_IF_SET):
        value = getattr(sidecar, name)
        if value or name in _ALWAYS_WRITTEN:
            first, *rest = value.split("\n")
            lines += [f"{name}: {first}", *(_escape(line, name) for line in rest)]
    if sidecar.lyrics:
        lines += ["lyrics:", sidecar.lyrics]
    return "\n".join(lines) + "\n"


def sidecar_path(audio: Path) -> Path:
    """Return the sidecar of a song, whether it is there or not; `song.wav` and `song.mp3` share `song.txt`."""
    return _spelled_as_on_disk(audio.with_suffix(".txt"))


def sidecar_text(audio: Path) -> str | None:
    """Return what stands in the sidecar of a song, None if there is no such file.

    Raises:
        DatasetError: it is not UTF-8 text or cannot be read.
    """
    return _read_beside(audio, ".txt", None)


def read_sidecar(audio: Path, *, among: Collection[str] | None = None) -> Sidecar | None:
    """Return what is written beside a song, or None if nothing is.

    `<stem>.txt` made of keys comes first, with a caption or without; what it leaves empty comes from
    `<stem>.caption.txt` and `<stem>.lyrics.txt`. A `<stem>.txt` without keys is lyrics, unless one of those two exists.

    Args:
        audio: the song.
        among: names of the files in its folder, if they are known; then no other file is looked for.

    Raises:
        DatasetError: a file is not UTF-8 text or cannot be read.
    """
    text = _read_beside(audio, ".txt", among)
    fields = None if text is None else _parse_fields(text)
    own = None if fields is None else Sidecar(**fields)
    if own is not None and own.caption and own.lyrics:
        return own
    caption, lyrics = (_read_beside(audio, f".{kind}.txt", among) for kind in ("caption", "lyrics"))
    if caption is None and lyrics is None:
        return own or (None if text is None else Sidecar(lyrics=text))
    return merge(own or Sidecar(), Sidecar(caption=caption or "", lyrics=lyrics or ""), "fill_missing")


def write_sidecar(audio: Path, sidecar: Sidecar) -> Path:
    """Write the sidecar of a song and return its path; what it replaces is kept as `<stem>.txt.bak`."""
    path = sidecar_path(audio)
    content = render(sidecar).encode()
    if path.exists():
        before = path.read_bytes()
        if before == content:
            return path
        write_atomic(path.with_name(path.name + ".bak"), before)
    write_atomic(path, content)
    return path


def overwrites(policy: MergePolicy, field: str) -> bool:
    """Tell whether a policy overwrites a field that says something already."""
    return field in _OVERWRITTEN[policy]


def merge(known: Sidecar, new: Sidecar, policy: MergePolicy) -> Sidecar:
    """Return `known` with what `new` adds: its empty fields, and the fields that the policy overwrites.

    `overwrite_all` overwrites what describes the music, not tags or settings. An empty new value changes nothing.
    """
    changes = {
        name: value
        for name, value in attrs.asdict(new).items()
        if value and (name in _OVERWRITTEN[policy] or not getattr(known, name))
    }
    return attrs.evolve(known, **changes)


def _parse_fields(text: str) -> dict[str, str] | None:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    name, value = "other", list[str]()
    values = [(name, value)]
    comments: list[str] = []
    for number, line in enumerate(lines):
        if match := _KEY_LINE.match(line):
            key = match[1].lower()
            name, value = ALIASES.get(key, key), [line[match.end() :]]
            values.append((name, value))
            if key == "lyrics":
                value += lines[number + 1 :]
                break
        elif _COMMENT_LINE.match(line):
            comments.append(line.lstrip()[1:])
        elif name not in _PROSE and _ANY_KEY_LINE.match(line):
            name, value = "other", [line]
            values.append((name, value))
        else:
            value.append(_unescape(line, name))
    return {"comments": "\n".join(comments), **_joined(values)} if _is_made_of_keys(values) else None


def _joined(values: Sequence[tuple[str, list[str]]]) -> dict[str, str]:
    """Return the text of each field; of a key that stands there twice the last one that says something counts."""
    fields: dict[str, str] = {}
    for name, lines in values:
        text = "\n".join(lines).strip()
        if name == "other" and text and fields.get(name):
            fields[name] += f"\n{text}"
        elif text or name not in fields:
            fields[name] = text
    return fields


def _is_made_of_keys(values: Sequence[tuple[str, list[str]]]) -> bool:
    """Tell a sidecar from lyrics in which a line happens to begin with a known key."""
    (_, before), *keyed = values
    first = next((line for line in before if line.strip()), "")
    return any(name == "caption" for name, _ in keyed) or bool(keyed and (not first or _ANY_KEY_LINE.match(first)))


def _escape(line: str, name: str) -> str:
    return "\\" + line if _special(name).match(line) else line


def _unescape(line: str, name: str) -> str:
    return line[1:] if line.startswith("\\") and _special(name).match(line) else line


def _special(name: str) -> re.Pattern[str]:
    return _SPECIAL_LINE if name in _PROSE else _SPECIAL_LINE_OF_A_WORD


def _spelled_as_on_disk(path: Path, among: Collection[str] | None = None) -> Path:
    """Return the path under the Unicode form of its name that exists: archives made on a Mac decompose accents."""

    def exists(candidate: Path) -> bool:
        return candidate.exists() if among is None else candidate.name in among

    if path.name.isascii() or exists(path):
        return path
    spellings = (path.with_name(unicodedata.normalize(form, path.name)) for form in ("NFC", "NFD"))
    return next((p for p in spellings if exists(p)), path)


def _read_beside(audio: Path, suffix: str, among: Collection[str] | None) -> str | None:
    path = _spelled_as_on_disk(audio.with_suffix(suffix), among)
    return None if among is not None and path.name not in among else _read(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
