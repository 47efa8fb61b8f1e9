"""The question that providers put to a language model: one file, which users can replace by their own.

Lines that begin with `@name` are kept where the name applies: a field that is wanted, `hears` or `silent`, `artist`,
`length`, `known`, `words` (lyrics are known) and `search`. Words in braces are filled in. A text without `{fields}`
gets what it leaves out at its end.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from sidestep_core.describing.normalise import FIELDS
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import Track
from sidestep_core.settings import config_folder

FILE_NAME = "caption_prompt.txt"
_MOST_WORDS = 500
_CONDITION = re.compile(r"@([a-z_]+)(?: |$)")
_ADDED = """
@hears The recording comes with this message.
Title: {title}
@artist Artist: {artist}
@known Known already, and right: {known}
Answer with one JSON object that has these fields, null where you are not sure: {fields}.
"""


def caption_prompt(track: Track, wanted: frozenset[str], *, hears: bool, grounding: bool = False) -> str:
    """Return the question about one song, which asks for the wanted fields only.

    Args:
        track: the song; what is known about it is told.
        wanted: sidecar fields.
        hears: the audio comes with the question.
        grounding: the model may search the web.

    Raises:
        ConfigError: the user's own prompt cannot be read.
    """
    known = {field: value for field, value in track.known.items() if value and field in FIELDS}
    words = known.pop("lyrics", "")[:_MOST_WORDS].strip()
    known.pop("caption", None)
    values = {
        "title": track.title,
        "artist": track.artist,
        "length": f"{round(track.duration)} seconds" if track.duration else "",
        "known": ", ".join(f"{field} {known[field]}" for field in FIELDS if field in known and field not in wanted),
        "words": words,
        "fields": ", ".join(field for field in FIELDS if field in wanted),
    }
    applies = wanted | {name for name, value in values.items() if value} | {"hears" if hears else "silent"}
    text = prompt_text()
    return _filled(
        text if "{fields}" in text else text + _ADDED, values, applies | ({"search"} if grounding else set())
    )


def prompt_text() -> str:
    """Return the prompt file's text: the user's own, else the one that comes with the program.

    Raises:
        ConfigError: the user's file cannot be read.
    """
    path = prompt_path()
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return (files(__package__) / FILE_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompt '{path}' cannot be read: {error}") from error


def prompt_path() -> Path:
    """Return where a prompt of the user's own stands, whether it is there or not."""
    return config_folder() / FILE_NAME


def _filled(text: str, values: dict[str, str], applies: frozenset[str]) -> str:
    lines = []
    for line in text.splitlines():
        condition = _CONDITION.match(line)
        if condition is None or condition[1] in applies:
            lines.append(line[condition.end() :] if condition else line)
    # one pass: what is filled in is not looked at again
    filled = re.sub(r"\{([a-z]+)\}", lambda match: values.get(match[1], match[0]), "\n".join(lines))
    return re.sub(r"\n{3,}", "\n\n", filled).strip() + "\n"
