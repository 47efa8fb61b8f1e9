"""The one place that makes what people and models write into values of sidecar fields."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from sidestep_core.languages import language_code

FIELDS = ("caption", "genre", "bpm", "key", "signature", "language", "is_instrumental", "lyrics")
LOWEST_BPM, HIGHEST_BPM = 20, 400

_SAYS_NOTHING = re.compile(
    r"na|none|null|nil|nan|missing|un(?:known|specified|detected|determined|defined)"
    r"|not(?:known|specified|detected|determined|available|applicable)|nolyrics(?:found)?"
)
_INVISIBLE = re.compile(r"[\u200b\u200c\u2060\ufeff\u00ad]")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$\n?", re.MULTILINE)
_NUMBER = r"(\d{1,6}(?:[.,]\d+)?)"
_BPM = re.compile(rf"{_NUMBER}(?:\s*(?:-|–|—|to|or)\s*{_NUMBER})?")
_METRE = re.compile(r"(?<!\d)(\d{1,2})\s*[/:⁄]\s*(\d{1,2})(?!\d)")
_METRE_WORDS = {
    "common time": "4/4",
    "cut time": "2/2",
    "alla breve": "2/2",
    "waltz": "3/4",
    "four four": "4/4",
    "three four": "3/4",
    "two four": "2/4",
    "five four": "5/4",
    "six eight": "6/8",
    "seven eight": "7/8",
    "twelve eight": "12/8",
}
_BEAT_UNITS = {"2": "2/4", "3": "3/4", "4": "4/4", "5": "5/4", "6": "6/8", "7": "7/8", "9": "9/8", "12": "12/8"}
_KEY = re.compile(
    r"\b(?P<note>[a-g])[ -]?(?P<accidental>#|♯|b(?![a-ln-z])|♭|sharp\b|flat\b)?[ _:-]*"
    r"(?P<mode>maj(?:or)?|min(?:or)?|dur|moll|ionian|lydian|mixolydian|aeolian|dorian|phrygian|locrian)\b",
    re.IGNORECASE,
)
_SHORT_KEY = re.compile(r"\b(?P<note>[A-G])(?P<accidental>#|♯|b|♭)?(?P<mode>[mM])(?![A-Za-z])")
_BARE_KEY = re.compile(r"[~*`\"' ]*(?:key of )?(?P<note>[A-G])(?P<accidental>#|♯|b|♭|[ -]sharp|[ -]flat)?[.*`\"' ]*")
# "in a minor key" names no note
_ARTICLE = re.compile(r"a (?:major|minor) (?:key|mode|scale)")
_MINOR = ("m", "min", "minor", "moll", "aeolian", "dorian", "phrygian", "locrian")
_YES = frozenset({"true", "yes", "y", "1", "instrumental", "no vocals", "without vocals"})
_NO = frozenset({"false", "no", "n", "0", "vocal", "vocals", "has vocals", "with vocals", "not instrumental"})


def normalise(field: str, value: object) -> str:
    """Return the text that a sidecar holds for a value, "" if the value says nothing or nothing that is understood.

    Args:
        field: name of a sidecar field; one that has no form of its own is only cleaned.
        value: text, number, boolean or a list of them, as somebody or something gave it.
    """
    text = _to_text(field, value)
    return "" if says_nothing(text) else _FORMS.get(field, _line)(text)


def says_nothing(text: str) -> bool:
    """Tell whether a text is empty, or a way of writing that nothing is known, such as `N/A`."""
    return not any(map(str.isalnum, text)) or _SAYS_NOTHING.fullmatch(_squashed(text)) is not None


def normalise_all(values: Mapping[str, object]) -> dict[str, str]:
    """Return the fields that say something, each in its form."""
    made = {field: normalise(field, value) for field, value in values.items()}
    return {field: text for field, text in made.items() if text}


def clean_text(text: str) -> str:
    """Return text in composed form, with LF line ends, without control and invisible characters."""
    text = text.encode(errors="ignore").decode().replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc")


def _to_text(field: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _listed(field, clean_text(value).strip())
    if isinstance(value, bool):
        return ("true" if value else "false") if field == "is_instrumental" else ""
    if isinstance(value, int | float):
        return f"{value:.10g}" if math.isfinite(value) else ""
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        parts = [_to_text("", part) for part in value]
        return {"lyrics": "\n", "caption": " "}.get(field, ", ").join(filter(None, parts))
    return ""


def _listed(field: str, text: str) -> str:
    """Return a list of genres that came as the text of one."""
    if field != "genre" or not text.startswith("["):
        return text
    try:
        return _to_text(field, json.loads(text.replace("'", '"')))
    except ValueError:
        return text.strip("[]")


def _squashed(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum()) if len(text) < 40 else text


def _line(text: str) -> str:
    text = _FENCE.sub("", text).replace("**", "").replace("__", "")
    return _unquoted(" ".join(text.split()))


def _unquoted(text: str) -> str:
    pairs = {'"': '"', "'": "'", "“": "”", "`": "`"}
    inside = text[1:-1]
    if len(text) > 1 and pairs.get(text[0]) == text[-1] and text[0] not in inside and text[-1] not in inside:
        return inside.strip()
    return text


def _genre(text: str) -> str:
    found: dict[str, str] = {}
    for part in re.split(r"[,;|\n•·]", _FENCE.sub("", text)):
        genre = _line(part.strip(" -*.[]\"'"))
        if not says_nothing(genre):
            found.setdefault(genre.casefold(), genre)
    return ", ".join(found.values())


def _bpm(text: str) -> str:
    tempi = (_tempo(match) for match in _BPM.finditer(text))
    return next((f"{round(tempo, 2):g}" for tempo in tempi if LOWEST_BPM <= tempo <= HIGHEST_BPM), "")


def _tempo(match: re.Match[str]) -> float:
    low, high = (float(number.replace(",", ".")) if number else 0.0 for number in match.groups())
    # of a range the middle; "60 or 120" is a choice of levels, not a range
    return (low + high) / 2 if low < high <= low * 1.25 else low


def _key(text: str) -> str:
    match = _KEY.search(text) or _SHORT_KEY.search(text) or _BARE_KEY.fullmatch(text)
    if match is None or _ARTICLE.match(text, match.start()):
        return ""
    found = match.groupdict()
    accidental = (found["accidental"] or "").strip(" -").lower()
    sign = {"♯": "#", "sharp": "#", "♭": "b", "flat": "b"}.get(accidental, accidental)
    mode = found.get("mode") or ""
    minor = (mode if len(mode) == 1 else mode.lower()) in _MINOR
    return f"{found['note'].upper()}{sign} {'minor' if minor else 'major'}"


def _signature(text: str) -> str:
    if match := _METRE.search(text):
        beats, unit = int(match[1]), int(match[2])
        return f"{beats}/{unit}" if beats and unit in (1, 2, 4, 8, 16) else ""
    words = re.sub(r"[\s_-]+", " ", text.lower())
    known = (metre for name, metre in _METRE_WORDS.items() if name in words)
    return next(known, _BEAT_UNITS.get(words.strip(" *`\"'"), ""))


def _instrumental(text: str) -> str:
    word = _line(text).lower().strip(" .[]")
    return "true" if word in _YES else "false" if word in _NO else ""


def _lyrics(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in _FENCE.sub("", text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


_FORMS: Mapping[str, Callable[[str], str]] = {
    "caption": _line,
    "genre": _genre,
    "bpm": _bpm,
    "key": _key,
    "signature": _signature,
    "language": language_code,
    "is_instrumental": _instrumental,
    "lyrics": _lyrics,
}
