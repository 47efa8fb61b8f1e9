"""What is true of rendered songs, and how far an answer agrees with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import attrs

from known_songs.compose import PITCHES

CLOSE = 0.04  # tempi within 4 % count as equal
OCTAVES = (1, 2, 1 / 2, 3, 1 / 3)


@attrs.frozen(kw_only=True)
class Song:
    """A rendered song: its file, the style and the drums it has, and what is true of it."""

    path: Path
    style: str
    drums: str
    bpm: float
    key: str
    signature: str


def read_songs(folder: Path) -> Iterator[Song]:
    """Yield the songs of a folder that `render.py` made."""
    for facts in json.loads((folder / "truth.json").read_text("utf-8")):
        yield Song(path=folder / facts.pop("file"), **facts)


def same_tempo(bpm: float, truth: float) -> bool:
    """Tell whether a tempo is right."""
    return abs(bpm / truth - 1) <= CLOSE


def same_tempo_or_octave(bpm: float, truth: float) -> bool:
    """Tell whether a tempo is right, or the half, the double, a third or three times of what is."""
    return any(same_tempo(bpm, truth * factor) for factor in OCTAVES)


def key_credit(key: str, truth: str) -> float:
    """Return MIREX's credit for a key: 1 the same, 0.5 a fifth away, 0.3 the relative, 0.2 the parallel key."""
    (tonic, mode), (true_tonic, true_mode) = key.split(), truth.split()
    away = (PITCHES.index(tonic) - PITCHES.index(true_tonic)) % 12
    if mode == true_mode:
        return 1.0 if away == 0 else 0.5 if away in (5, 7) else 0.0
    if away == 0:
        return 0.2
    return 0.3 if away == (9 if true_mode == "major" else 3) else 0.0
