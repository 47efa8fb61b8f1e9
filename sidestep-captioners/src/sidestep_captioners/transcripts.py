"""What servers that transcribe or describe answer: text, JSON, JSON within text, segments with times."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from sidestep_core.describing.answers import read_answer
from sidestep_core.errors import ProviderError

from sidestep_captioners.lines import Segment, is_long, prose_lines, segment_lines

LYRICS = frozenset({"lyrics", "language"})
_TEXTS = ("lyrics", "text", "transcript", "transcription", "result", "output")
_SEGMENTS = ("segments", "lyrics_segments", "transcript_segments", "chunks", "words")
_WRAPPERS = ("data", "prediction", "response", "answer", "content", "generated_text")
_SEGMENT_TEXTS = ("text", "lyrics", "content", "line", "transcript", "word")
_LANGUAGES = ("language", "lang", "detected_language", "vocal_language")
_MAX_DEPTH = 8
_TIMES = re.compile(
    r"[\[<(]\s*(?:\d+:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?(?:\s*-+>\s*(?:\d+:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?)?\s*[\]>)]"
)
_LABEL = re.compile(r"[#*\s]*(?:lyrics|transcript(?:ion)?|text|output)[*\s]*[:：]?[*\s]*|```\w*|~~~\w*", re.IGNORECASE)
_OWN_FORM = re.compile(r"^\s*#{1,6}\s*lyrics\b", re.IGNORECASE | re.MULTILINE)
# songs begin with "Sorry" and "I can't", too; a refusal is one line and names its business
_REFUSAL = re.compile(
    r"\W*(?:i['’]m sorry|i am sorry|sorry\b|i can(?:not|['’]t| not)\b|i(?:['’]m| am) (?:not able|unable)|as an ai\b)"
    r".*\b(?:audio|transcri\w+|lyrics|listen|recording|process|assist|copyright\w*|request)\b.*",
    re.IGNORECASE,
)


def read_transcript(answer: object) -> dict[str, str]:
    """Return lyrics, and the language where it is told; nothing where nobody sings.

    Raises:
        ProviderError: the answer is a refusal ("refused") or holds no text at all ("bad answer").
    """
    check_refusal(answer)
    lyrics = _lyrics(answer, _MAX_DEPTH)
    if lyrics is None:
        raise ProviderError(f"the answer holds no lyrics: '{_shown(answer)}'", kind="bad answer")
    check_refusal(lyrics)
    if _OWN_FORM.search(lyrics):
        return read_answer(lyrics, LYRICS)
    found = {"lyrics": _tidy(lyrics), "language": _language(answer, _MAX_DEPTH)}
    return {field: text for field, text in found.items() if text}


def read_description(answer: object, wanted: frozenset[str]) -> dict[str, str]:
    """Return the wanted fields of an answer that may give some beside a text that gives others.

    Raises:
        ProviderError: the answer is a refusal ("refused") or names none of the fields ("bad answer").
    """
    check_refusal(answer)
    found: dict[str, str] = {}
    failure: ProviderError | None = None
    readings = 0
    for part in _parts(answer):
        try:
            found = {**read_answer(part, wanted), **found}
            readings += 1
        except ProviderError as error:
            failure = failure or error
    if readings:
        return found
    if "caption" in wanted and (prose := _prose(answer)):
        return read_answer({"caption": prose}, frozenset({"caption"}))  # which knows excuses
    raise failure or ProviderError(f"the answer holds nothing: '{_shown(answer)}'", kind="bad answer")


def check_refusal(answer: object) -> None:
    """Raise `ProviderError` where an answer says in so many words that there is none."""
    if isinstance(answer, Mapping) and (error := answer.get("error")):
        raise ProviderError(f"the server says: {_shown(error)}", kind="bad answer")
    if isinstance(answer, str) and _REFUSAL.fullmatch(answer.strip()):
        raise ProviderError(f"the model refused: {_shown(answer)}", kind="refused")


def _parts(answer: object) -> Iterator[str | Mapping[str, object]]:
    """Yield an answer and what is wrapped in it, each to be read by itself."""
    if isinstance(answer, str | Mapping):
        yield answer
    if isinstance(answer, Mapping):
        inner: Sequence[object] = [answer.get(name) for name in (*_TEXTS, *_WRAPPERS)]
    else:
        inner = answer if isinstance(answer, list) else []
    yield from (part for part in inner if isinstance(part, str | Mapping) and part)


def _prose(answer: object) -> str:
    texts = (part.strip() for part in _parts(answer) if isinstance(part, str))
    return next((text for text in texts if len(text.split()) > 4 and not text.startswith(("{", "["))), "")


def _lyrics(answer: object, depth: int) -> str | None:
    """Return the lyrics in an answer, "" for an answer of none, None where there is no place for any."""
    if depth == 0:
        return None
    if isinstance(answer, str):
        inner = _inner_json(answer)
        return answer if inner is None else _lyrics(inner, depth - 1)
    if isinstance(answer, list):
        return _of_list(answer, depth)
    if not isinstance(answer, Mapping):
        return None
    text = _first((answer[name] for name in _TEXTS if name in answer), depth)
    if text and "\n" in text.strip():
        return text
    # times tell better where lines end than words in a row do
    timed = _first((answer[name] for name in _SEGMENTS if answer.get(name)), depth)
    if timed or text is not None:
        return timed or text
    return _first((answer[name] for name in _WRAPPERS if name in answer), depth)


def _first(answers: Iterator[object], depth: int) -> str | None:
    found = [text for answer in answers if (text := _lyrics(answer, depth - 1)) is not None]
    return next(filter(None, found), "" if found else None)


def _of_list(answer: list[object], depth: int) -> str | None:
    segments = [segment for item in answer if (segment := _segment(item)) is not None]
    if segments and len(segments) == len(answer):
        return segment_lines(segments)
    if answer and all(isinstance(item, str) for item in answer) and _inner_json(str(answer[0])) is None:
        return "\n".join(map(str, answer))
    return _first(iter(answer), depth) if answer else ""


def _segment(item: object) -> Segment | None:
    if not isinstance(item, Mapping):
        return None
    text = next((item[name] for name in _SEGMENT_TEXTS if isinstance(item.get(name), str)), None)
    if text is None or _inner_json(text) is not None:
        return None
    times = item.get("timestamp")
    start, end = times if isinstance(times, list) and len(times) == 2 else (item.get("start"), item.get("end"))
    return Segment(text, _number(start), _number(end))


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _inner_json(text: str) -> object | None:
    """Return the JSON that a text is, fenced or not, None if it is none."""
    bare = re.sub(r"\A\s*(?:```|~~~)\w*\s*|\s*(?:```|~~~)\s*\Z", "", text)
    if not bare.lstrip().startswith(("{", "[")):
        return None
    try:
        found = json.loads(bare, strict=False)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _tidy(text: str) -> str:
    """Return lyrics without times and labels; one long line becomes several."""
    lines = [_TIMES.sub("", line).strip() for line in text.strip().split("\n")]
    lines = [line for line in lines if not _LABEL.fullmatch(line) or not line]
    if len(lines) == 1 and is_long(lines[0]):
        return prose_lines(lines[0])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _language(answer: object, depth: int) -> str:
    if isinstance(answer, str):
        answer = _inner_json(answer)
    if depth == 0 or not isinstance(answer, Mapping):
        return ""
    told = next((answer[name] for name in _LANGUAGES if isinstance(answer.get(name), str)), "")
    inner = (_language(answer[name], depth - 1) for name in (*_TEXTS, *_WRAPPERS) if name in answer)
    return told or next(filter(None, inner), "")


def _shown(answer: object) -> str:
    return " ".join(str(answer).split())[:80]
