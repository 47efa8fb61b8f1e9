"""What the data doctor found: findings about songs, the songs with their exact prompts, and their lengths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import attrs

from sidestep_core.events import Event

Kind = Literal[
    "unreadable",
    "silent",
    "clipped",
    "quiet",
    "duplicate",
    "sidecar",
    "no caption",
    "no lyrics",
    "cut prompt",
    "cut lyrics",
    "language",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# upper ends in seconds; the last one is open
_LENGTHS = (15, 30, 60, 120, 180, 240, 300, 480)


@attrs.frozen(kw_only=True)
class Finding:
    """Something about one song.

    Attributes:
        song: its name in the set.
        kind: what it is about.
        reason: what is wrong, in words.
        dropped: whether preprocessing leaves out the song, or a part of what is said about it.
    """

    song: str
    kind: Kind
    reason: str
    dropped: bool = False


@attrs.frozen(kw_only=True)
class CheckedSong:
    """One song as the model would be told of it.

    Attributes:
        name: its name in the set.
        seconds: length of what is used of it.
        prompt: the exact text for the text encoder.
        lyrics: the exact text whose tokens are the lyrics.
        language: code of the language that the lyrics look like; "" where nothing can be said.
    """

    name: str
    seconds: float
    prompt: str
    lyrics: str
    language: str


@attrs.frozen(kw_only=True)
class DatasetChecked(Event):
    """A set of songs was checked.

    Attributes:
        songs: those that can be used, in the order of the set.
        findings: by song, in the order of the set.
        notes: what could not be looked at, and why.
    """

    songs: tuple[CheckedSong, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def dropped(self) -> int:
        """How many findings stand for something that would be dropped."""
        return sum(finding.dropped for finding in self.findings)


def histogram(seconds: Sequence[float]) -> list[tuple[str, int]]:
    """Return how many songs have which length, from the shortest to the longest that there are."""
    bounds = [0, *_LENGTHS, float("inf")]
    counts = [
        (_span(low, high), sum(low <= length < high for length in seconds)) for low, high in itertools.pairwise(bounds)
    ]
    filled = [number for number, (_, count) in enumerate(counts) if count]
    return counts[filled[0] : filled[-1] + 1] if filled else []


def _span(low: float, high: float) -> str:
    return f"{clock(low)} and longer" if high == float("inf") else f"{clock(low)} to {clock(high)}"


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"
