"""Files beside a song: JSON objects, texts for caption and lyrics, and tagged texts.

ACE-Step 1.5 writes `song.json`, `song.caption.txt` and `song.lyrics.txt`, ACE-Step 1 `song_prompt.txt` and
`song_lyrics.txt`, SimpleTuner `song.txt` for the caption and `song.lyrics`, ai-toolkit `song.txt` with
`<CAPTION>...</CAPTION>` and further tags.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from sidestep_core.errors import DatasetError
from sidestep_core.layouts.found import Found, read_text
from sidestep_core.records import knows_any, sidecar_of
from sidestep_core.sidecars import Sidecar, is_keyed, parse, sidecar_path

PlainText = Literal["caption", "lyrics"]
TextKind = Literal["sidecar", "tagged", "caption", "lyrics"]

_CAPTIONS = (".caption.txt", "_prompt.txt", ".caption")
_LYRICS = (".lyrics.txt", ".lyrics", "_lyrics.txt")
_OPENING = re.compile(r"<([A-Z_]+)>")
_CLOSING = re.compile(r"</([A-Z_]+)>")
_TELLING = frozenset({"caption", "lyrics"})
_SECTION = re.compile(r"^[ \t]*\[[^\]\n]+\][ \t]*$", re.MULTILINE)


def found_beside(audio: Path, names: Collection[str], plain: PlainText | None) -> list[Found]:
    """Return what the files beside a song say, its `<stem>.txt` first, then JSON, then single texts.

    Args:
        audio: the song.
        names: the files of its folder.
        plain: what a text is that has neither keys nor tags nor `[Verse]`; None if nobody knows.

    Raises:
        DatasetError: a file cannot be read or is not what its name says, or nobody can tell what it is.
    """
    path = sidecar_path(audio)
    text = read_text(path) if path.name in names else ""
    own = [_read_as(text_kind(path, text, names, plain), path, text)] if text.strip() else []
    return [*own, *_other_files(audio.with_suffix(""), names)]


def text_kind(path: Path, text: str, names: Collection[str], plain: PlainText | None) -> TextKind:
    """Return what a `<stem>.txt` is; beside `.lyrics` files it is a caption, as SimpleTuner has it.

    Raises:
        DatasetError: it may be a caption as well as lyrics.
    """
    if text.lstrip().startswith("<") and _TELLING & _split_tags(text)[0].keys():
        return "tagged"
    if is_keyed(text):
        return "sidecar"
    if _SECTION.search(text):
        return "lyrics"
    if plain is not None:
        return plain
    if any(name.endswith(".lyrics") for name in names):
        return "caption"
    raise DatasetError(f"{path}: text without keys, which may be a caption or lyrics; say which with --plain-text")


def _other_files(stem: Path, names: Collection[str]) -> Iterator[Found]:
    if (path := _beside(stem, ".json", names)) and (values := _read_object(path)) is not None:
        sidecar, doubts = sidecar_of(values)
        yield Found(source=path, sidecar=sidecar, doubts=tuple(doubts))
    for field, suffixes in (("caption", _CAPTIONS), ("lyrics", _LYRICS)):
        for suffix in suffixes:
            if path := _beside(stem, suffix, names):
                yield Found(source=path, sidecar=Sidecar(**{field: read_text(path)}))


def _read_as(kind: TextKind, path: Path, text: str) -> Found:
    if kind == "tagged":
        tagged, rest = _split_tags(text)
        sidecar, doubts = sidecar_of(tagged | ({"other text": rest} if rest else {}))
        return Found(source=path, sidecar=sidecar, doubts=tuple(doubts))
    if kind == "sidecar":
        return Found(source=path, sidecar=parse(text), keyed=True)
    return Found(source=path, sidecar=Sidecar(**{kind: text}))


def _split_tags(text: str) -> tuple[dict[str, str], str]:
    """Return what stands in tags, by their names in small letters, and all else; of equal tags the first one counts."""
    ends = {match[1]: match.start() for match in _CLOSING.finditer(text)}
    tagged: dict[str, str] = {}
    rest, done = [], 0
    for match in _OPENING.finditer(text):
        name = match[1]
        # without the look at the last end, many open tags would each be searched to the end of the text
        if match.start() < done or ends.get(name, -1) < match.end() or name.lower() in tagged:
            continue
        end = text.index(f"</{name}>", match.end())
        tagged[name.lower()] = text[match.end() : end].strip()
        rest.append(text[done : match.start()])
        done = end + len(name) + 3
    return tagged, "".join([*rest, text[done:]]).strip()


def _beside(stem: Path, suffix: str, names: Collection[str]) -> Path | None:
    """Return the file of that ending if it is there, in whichever form its accents are written."""
    name = stem.name + suffix
    spellings = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    return next((stem.with_name(each) for each in spellings if each in names), None)


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return what describes a song; None for JSON that is about something else."""
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error})") from error
    return values if isinstance(values, dict) and knows_any(values) else None
