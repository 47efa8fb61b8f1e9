"""Words with times, or words in a row, as lines of lyrics."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

import attrs

_NEW_VERSE, _NEW_LINE = 1.6, 0.85  # seconds of silence
_FEWEST, _MOST = 4, 8  # words before a short silence counts, and in a line
_PHRASE = 3.0  # words on average from which on a segment is a line already
_LONGEST_PHRASE = 14
_CLOSING = re.compile(r"[.!?…。！？][\"'”’»」』)]*$")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？、])|(?<=[,;])\s+(?=\S+(?:\s+\S+){2})")
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


@attrs.frozen
class Segment:
    """A word or a phrase, and from when to when it is sung, in seconds; None where that is not known."""

    text: str
    start: float | None = None
    end: float | None = None


def segment_lines(segments: Sequence[Segment]) -> str:
    """Return segments as lines, a blank one where nobody sings for a while."""
    segments = [segment for segment in segments if segment.text.strip()]
    if not segments:
        return ""
    if sum(_words(segment.text) for segment in segments) / len(segments) >= _PHRASE:
        return "\n".join(_of_phrases(segments))
    return "\n".join(_of_words(segments))


def prose_lines(text: str) -> str:
    """Return one long line as lines of at most eight words, ended by punctuation where there is some."""
    clauses = (clause.strip() for clause in _SENTENCE.split(" ".join(text.split())))
    return "\n".join(line for clause in clauses if clause for line in _wrapped(clause))


def is_long(line: str) -> bool:
    """Tell whether a line is longer than lines of lyrics are."""
    return _words(line) > _MOST


def _of_phrases(segments: Sequence[Segment]) -> Iterator[str]:
    previous: Segment | None = None
    for segment in segments:
        if previous is not None and _gap(previous, segment) >= _NEW_VERSE:
            yield ""
        text = " ".join(segment.text.split())
        yield from prose_lines(text).split("\n") if _words(text) > _LONGEST_PHRASE else (text,)
        previous = segment


def _of_words(segments: Sequence[Segment]) -> Iterator[str]:
    # tokens of speech models bring their own spaces
    spaced = any(segment.text[:1].isspace() for segment in segments[1:])
    line, previous = "", None
    for segment in segments:
        gap = _gap(previous, segment) if previous is not None else 0.0
        if line and (gap >= _NEW_VERSE or _is_full(line, gap)) and not (spaced and not segment.text[:1].isspace()):
            yield line.strip()
            line = ""
            if gap >= _NEW_VERSE:
                yield ""
        line += segment.text if spaced else _glue(line, segment.text) + segment.text.strip()
        previous = segment
    yield line.strip()


def _is_full(line: str, gap: float) -> bool:
    words = _words(line)
    return words >= _MOST or (gap >= _NEW_LINE and words >= _FEWEST) or bool(_CLOSING.search(line.rstrip()))


def _gap(one: Segment, other: Segment) -> float:
    return other.start - one.end if one.end is not None and other.start is not None else 0.0


def _wrapped(clause: str) -> Iterator[str]:
    """Yield a clause in lines about as long as each other: none is a last word alone."""
    words = clause.split()
    if len(words) == 1 and _words(clause) > _MOST:  # a script without spaces
        pieces, glue = list(clause), ""
        lines = -(-len(pieces) // (2 * _MOST))
    else:
        pieces, glue = words, " "
        lines = -(-len(pieces) // _MOST)
    edges = [round(number * len(pieces) / lines) for number in range(lines + 1)]
    for start, end in pairwise(edges):
        yield glue.join(pieces[start:end])


def _glue(line: str, text: str) -> str:
    if not line:
        return ""
    return "" if _is_unspaced(line[-1]) and _is_unspaced(text.strip()[0]) else " "


def _words(text: str) -> float:
    """Return the number of words; two characters of a script without spaces count as one."""
    unspaced = sum(map(_is_unspaced, text))
    return len(text.split()) if unspaced < 2 else max(len(text.split()), unspaced / 2)


def _is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)
