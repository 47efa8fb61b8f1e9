"""Signs that a description was made up: shown to a person, never corrected."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from sidestep_core.describing.provenance import Source
from sidestep_core.interfaces import Track
from sidestep_core.languages import contradicts

_SAME_LINE, _SAME_WORD = 8, 16  # so often in a row is what a model does that is stuck, not a chorus
_FEWEST_LINES, _DIFFERENT = 24, 0.2
_WORDS_A_SECOND = 6.0  # the fastest rap is slower over a whole song
_FEWEST_LETTERS, _MOST_LETTERS = 20, 2000
_TEMPO_TOLERANCE = 0.04
_SHORTEST_NAME = 4  # shorter ones are words like any other
_FIGURES = re.compile(r"\b\d{2,3}(?:\.\d+)? ?(?:bpm|beats per minute)\b", re.IGNORECASE)
_OTHER_LEVELS = (0.5, 2.0, 3.0, 1 / 3, 1.5, 2 / 3)
# what speech models write over music and silence: they learnt from subtitles
_SUBTITLES = re.compile(
    r"thanks? (?:you )?for watching|subscribe to (?:my|our|the) channel|subtitles by|amara\.org|otter\.ai"
    r"|字幕|ご視聴ありがとう|시청해 ?주셔서|untertitel (?:im auftrag|von)|sous-titr|субтитры|подписывайтесь",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\s*\[[^\]]*\]\s*")
_SCRIPTS: Mapping[str, str] = {
    **dict.fromkeys(("ru", "uk", "bg"), "CYRILLIC"),
    **dict.fromkeys(("ar", "fa", "ur"), "ARABIC"),
    **dict.fromkeys(("zh", "yue"), "CJK"),
    **dict.fromkeys(("hi", "ne", "sa"), "DEVANAGARI"),
    **{"ja": "HIRAGANA KATAKANA CJK", "ko": "HANGUL", "el": "GREEK", "he": "HEBREW", "th": "THAI"},
    **{"bn": "BENGALI", "ta": "TAMIL", "te": "TELUGU", "pa": "GURMUKHI ARABIC", "sr": "CYRILLIC LATIN"},
}
_PITCHES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


Guess = Callable[[str], str]


def find_doubts(
    track: Track, fields: Mapping[str, str], sources: Mapping[str, Source], guess: Guess | None = None
) -> dict[str, tuple[str, ...]]:
    """Return what a person should look at in new values, by field.

    Args:
        track: the song; what is known about it counts.
        fields: new values in their normal form.
        sources: where the song's other values come from; what was measured is compared.
        guess: tells the language of lyrics, see `languages.load_guesser`; without it, their letters are looked at.
    """
    checks = {"caption": _caption, "lyrics": _lyrics, "bpm": _tempo, "key": _key}
    found = {name: list(check(track, fields, sources)) for name, check in checks.items() if fields.get(name)}
    if fields.get("lyrics"):
        stated = fields.get("language") or track.known.get("language", "")
        found["lyrics"] += _language(fields["lyrics"], stated, guess)
    return {name: tuple(doubts) for name, doubts in found.items() if doubts}


def _caption(track: Track, fields: Mapping[str, str], sources: Mapping[str, Source]) -> Iterator[str]:
    text = fields["caption"]
    if match := _FIGURES.search(text):
        yield f"'{match[0]}' has a field of its own"
    # a title of one word may be a word that describes the music
    for what, name in (("artist", track.artist), ("title", track.title if " " in track.title else "")):
        if len(name) >= _SHORTEST_NAME and re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE):
            yield f"it names the {what}"


def _lyrics(track: Track, fields: Mapping[str, str], sources: Mapping[str, Source]) -> Iterator[str]:
    text = fields["lyrics"]
    lines = [line.strip().lower() for line in text.split("\n") if line.strip() and not _HEADER.fullmatch(line)]
    words = [word for line in lines for word in line.split()]
    yield from _repetition(lines)
    if match := _SUBTITLES.search(text):
        yield f"'{match[0]}' is from subtitles, not from a song"
    if track.duration and len(words) / track.duration > _WORDS_A_SECOND:
        yield f"{len(words)} words are too many for {track.duration:.0f} s"
    if lines and fields.get("is_instrumental", track.known.get("is_instrumental", "")) == "true":
        yield "the song is said to be instrumental"


def _repetition(lines: list[str]) -> Iterator[str]:
    most = [(_longest_run(lines), _SAME_LINE), *((_longest_run(line.split()), _SAME_WORD) for line in lines)]
    stuck = [run for run, limit in most if run[1] > limit]
    if stuck:
        unit, times = max(stuck, key=lambda run: run[1])
        yield f"'{unit[:30]}' stands there {times} times in a row"
    elif len(lines) >= _FEWEST_LINES and len(set(lines)) < len(lines) * _DIFFERENT:
        yield f"only {len(set(lines))} of {len(lines)} lines differ"


def _longest_run(units: list[str]) -> tuple[str, int]:
    runs = ((unit, len(list(run))) for unit, run in groupby(units))
    return max(runs, key=lambda run: run[1], default=("", 0))


def _language(lyrics: str, code: str, guess: Guess | None) -> Iterator[str]:
    lines = (line for line in lyrics.split("\n") if not _HEADER.fullmatch(line))
    letters = [c for line in lines for c in line if c.isalpha()][:_MOST_LETTERS]
    if not code or len(letters) < _FEWEST_LETTERS:
        return
    scripts = Counter(unicodedata.name(c, "?").split()[0].split("-")[0] for c in letters)
    script, _ = scripts.most_common(1)[0]
    expected = _SCRIPTS.get(code, "LATIN").split()
    # lyrics of every language are written in Latin letters, too
    if script not in expected and script != "LATIN":
        yield f"said to be '{code}', but written in {script.capitalize()} letters"
    elif guess is not None and contradicts(code, guessed := guess(lyrics), lyrics):
        yield f"said to be '{code}', but they look like '{guessed}'"


def _tempo(track: Track, fields: Mapping[str, str], sources: Mapping[str, Source]) -> Iterator[str]:
    measured, told = _number(_measured("bpm", sources)), _number(fields["bpm"])
    if not measured or not told or abs(told / measured - 1) <= _TEMPO_TOLERANCE:
        return
    if any(abs(told / measured / level - 1) <= _TEMPO_TOLERANCE for level in _OTHER_LEVELS):
        yield f"{measured:g} was measured; {told:g} is another level of the same tempo"
    else:
        yield f"{measured:g} was measured"


def _key(track: Track, fields: Mapping[str, str], sources: Mapping[str, Source]) -> Iterator[str]:
    measured, told = _measured("key", sources), fields["key"]
    if not measured or _pitch(measured) == _pitch(told):
        return
    (tonic, minor), (other, other_minor) = _pitch(measured), _pitch(told)
    relative = minor != other_minor and (other - tonic) % 12 == (3 if minor else 9)
    yield f"{measured} was measured" + (f"; {told} has the same notes" if relative else "")


def _measured(field: str, sources: Mapping[str, Source]) -> str:
    source = sources.get(field)
    return source.value if source is not None and source.kind == "measured" else ""


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d+(?:\.\d+)?", text) else 0.0


def _pitch(key: str) -> tuple[int, bool]:
    """Return the pitch class of a key's root and whether it is minor: C# and Db are one."""
    note, _, mode = key.partition(" ")
    return (_PITCHES.get(note[:1], 0) + note.count("#") - note[1:].count("b")) % 12, mode == "minor"
