"""What a provider asks its model to answer, and how the answer is read: structured first, lines of text last."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidestep_core.describing.normalise import FIELDS, normalise
from sidestep_core.errors import ProviderError

_MEANING: Mapping[str, tuple[str, str]] = {
    "caption": ("string", "What the recording sounds like, in plain sentences."),
    "genre": ("array", "One to four genres or styles, the most fitting first."),
    "bpm": ("number", "Tempo in beats a minute; null if not sure."),
    "key": ("string", "Key and mode, such as 'F# minor'; null if not sure."),
    "signature": ("string", "Time signature, such as '4/4'; null if not sure."),
    "language": ("string", "ISO 639-1 code of the language that is sung; null without singing."),
    "is_instrumental": ("boolean", "Whether nobody sings or speaks."),
    "lyrics": ("string", "The words that are sung, line by line, sections headed like [Verse]; null without singing."),
}
_ALIASES: Mapping[str, str] = {
    "genres": "genre",
    "style": "genre",
    "tempo": "bpm",
    "tempobpm": "bpm",
    "keyscale": "key",
    "scale": "key",
    "musicalkey": "key",
    "timesignature": "signature",
    "sig": "signature",
    "meter": "signature",
    "metre": "signature",
    "languages": "language",
    "lang": "language",
    "vocallanguage": "language",
    "instrumental": "is_instrumental",
    "isinstrumental": "is_instrumental",
    "description": "caption",
    "summary": "caption",
    "lyric": "lyrics",
    **{field: field for field in FIELDS},
}
# what servers wrap an answer in
_WRAPPERS = ("text", "output", "result", "response", "answer", "prediction", "content", "generated_text", "data")
# what stands in place of a description where a model could not hear or would not say
_EXCUSE = re.compile(
    r"(?:(?:i'm|i am) (?:sorry|unable|not able)|sorry,|i (?:can(?:no|')t|could ?n[o']t|do not have)\b|as an ai\b"
    r"|unfortunately, i\b|no audio (?:was|is|has)\b|there is no audio\b)",
    re.IGNORECASE,
)
_MAX_DEPTH = 5
_MAX_OBJECTS = 50
_LABEL = r"(?P<name>[A-Za-z][A-Za-z_ ]{0,20}(?:\([A-Za-z]+\))?)"
_LINE = re.compile(rf"[\s>*_•\"'`-]*(?:\d+[.)]\s*)?[*_\"'`]*#*\s*{_LABEL}[\s*_\"'`]*[:：][\s*_]*(?P<value>.*)")
_HEADING = re.compile(rf"\s*#{{1,6}}\s*{_LABEL}\s*#*(?P<value>)")
_RULE = re.compile(r"\s*(?:```|~~~|---|\*\*\*|[{}\[\]]+\s*$).*")


def answer_schema(wanted: frozenset[str]) -> dict[str, Any]:
    """Return the JSON schema of an answer: an object in which every wanted field is required and may be null."""
    fields = [field for field in FIELDS if field in wanted]
    return {
        "type": "object",
        "properties": {field: _property(*_MEANING[field]) for field in fields},
        "required": fields,
        "additionalProperties": False,
    }


def read_answer(answer: str | Mapping[str, object], wanted: frozenset[str]) -> dict[str, str]:
    """Return the wanted fields of an answer, each in its normal form; those that it leaves open are absent.

    A mapping is read as it is, or what stands in one that wraps it; text as JSON, fenced or between other words; and
    last as lines that begin with a field's name, where `lyrics:` takes all that follows.

    Raises:
        ProviderError: it names none of the wanted fields ("bad answer"), or the caption is an excuse ("refused").
    """
    found = _read(answer, wanted, _MAX_DEPTH)
    if found is not None and _EXCUSE.match(found.get("caption", "")):
        raise ProviderError(f"the model has no caption but an excuse: '{found['caption'][:80]}'", kind="refused")
    if found is None:
        shown = " ".join(str(answer).split())[:80]
        raise ProviderError(f"the answer names none of {', '.join(sorted(wanted))}: '{shown}'", kind="bad answer")
    return found


def _property(kind: str, meaning: str) -> dict[str, Any]:
    made: dict[str, Any] = {"type": [kind, "null"], "description": meaning}
    return {**made, "items": {"type": "string"}} if kind == "array" else made


def _read(answer: object, wanted: frozenset[str], depth: int) -> dict[str, str] | None:
    if depth == 0:
        return None
    if isinstance(answer, str):
        structured = (_read(part, wanted, depth - 1) for part in _objects(answer))
        found = next((found for found in structured if found is not None), None)
        return _from_lines(answer, wanted) if found is None else found
    if isinstance(answer, Mapping):
        named = _from_mapping(answer, wanted)
        return _first((answer.get(key) for key in _WRAPPERS), wanted, depth) if named is None else named
    return _first(answer, wanted, depth) if isinstance(answer, Sequence) else None


def _first(answers: Any, wanted: frozenset[str], depth: int) -> dict[str, str] | None:
    readings = (_read(answer, wanted, depth - 1) for answer in answers)
    return next((found for found in readings if found is not None), None)


def _from_mapping(answer: Mapping[str, object], wanted: frozenset[str]) -> dict[str, str] | None:
    named = [(field, value) for name, value in answer.items() if (field := _field(str(name))) in wanted]
    if not named:
        return None
    # a field's own name counts before its other names
    named += [(field, answer[field]) for field, _ in named if field in answer]
    return {field: text for field, value in named if (text := normalise(field, value))}


def _objects(text: str) -> Iterator[object]:
    """Yield the JSON objects in a text, or the Python one that a model wrote instead."""
    decoder, start = json.JSONDecoder(strict=False), text.find("{")
    for _ in range(_MAX_OBJECTS):
        if start < 0:
            break
        end = start + 1
        with contextlib.suppress(ValueError, RecursionError):
            value, end = decoder.raw_decode(text, start)
            yield value
        start = text.find("{", end)
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        yield ast.literal_eval(text[text.find("{") : text.rfind("}") + 1] or "None")


def _from_lines(text: str, wanted: frozenset[str]) -> dict[str, str] | None:
    values: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        match = None if current == "lyrics" else _LINE.fullmatch(line) or _HEADING.fullmatch(line)
        if match and (field := _field(match["name"])):
            current = field
            values.setdefault(field, []).append(match["value"])
        elif current and (current == "lyrics" or not _RULE.fullmatch(line)):
            values[current].append(line)
    if not values.keys() & wanted:
        return None
    made = {field: normalise(field, _joined(field, lines)) for field, lines in values.items() if field in wanted}
    return {field: value for field, value in made.items() if value}


def _joined(field: str, lines: list[str]) -> str:
    if field in ("caption", "lyrics"):
        return "\n".join(lines).strip().removesuffix(",")
    # what follows a short value is no part of it, unless the value is what follows
    return next((line.strip().rstrip(",") for line in lines if line.strip()), "")


def _field(name: str) -> str:
    return _ALIASES.get("".join(c for c in name.lower() if c.isalnum()), "")
