"""Key: how well pitch classes fit each of the 24 keys, and what chords and bass say of its tonic.

Profiles alone mix up keys that share most of their notes, relative ones and those a fifth apart. Where a song begins,
how often the dominant comes (in minor it holds a note that the relative major lacks) and where the bass ends tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import numpy as np

from sidestep_captioners.analysis.chords import find_triads, triad_classes
from sidestep_captioners.analysis.onsets import RATE, Array
from sidestep_captioners.analysis.pitches import HOP, Pitches

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# published tone profiles for C major and C minor: Sha'ath (2011), Albrecht and Shanahan (2013)
_SHAATH = {
    "major": (6.6, 2.0, 3.5, 2.3, 4.6, 4.0, 2.5, 5.2, 2.4, 3.7, 2.3, 3.4),
    "minor": (6.5, 2.7, 3.5, 5.4, 2.6, 3.5, 2.5, 5.2, 4.0, 2.7, 4.3, 3.2),
}
_ALBRECHT = {
    "major": (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    "minor": (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
}
_ENDING = int(3 * RATE / HOP)  # frames: the last three seconds


@attrs.frozen(eq=False, kw_only=True)
class KeyReading:
    """One key that a song may be in; `measures` is what speaks for or against it, by name."""

    key: str
    measures: Mapping[str, float]


def key_readings(pitches: Pitches) -> Iterator[KeyReading]:
    """Yield the 24 keys, `C major` first; none where nothing sounds."""
    sounding = np.flatnonzero(pitches.chords.any(axis=1))
    if not len(sounding):
        return
    song = slice(sounding[0], sounding[-1] + 1)
    frames, bass_frames = pitches.chords[song], pitches.bass[song]
    chords, bass, ending = frames.mean(axis=0), bass_frames.mean(axis=0), bass_frames[-_ENDING:].mean(axis=0)
    triads = find_triads(frames)
    time_on = np.bincount(triads, minlength=24) / len(triads)
    triad_notes = time_on @ triad_classes()
    for tonic, name in enumerate(TONICS):
        for minor, mode in enumerate(_SHAATH):
            shaath, albrecht = np.roll(_SHAATH[mode], tonic), np.roll(_ALBRECHT[mode], tonic)
            measures = {
                "minor": float(minor),
                "fits Sha'ath": _correlation(chords, shaath),
                "fits Albrecht": _correlation(chords, albrecht),
                "triads fit Sha'ath": _correlation(triad_notes, shaath),
                "bass fits Albrecht": _correlation(bass, albrecht),
                "begins on its chord": float(triads[0] == 2 * tonic + minor),
                "tonic in the bass at the end": float(ending[tonic] / (ending.max() + 1e-9)),
                "time on the dominant": float(time_on[2 * (tonic + 7) % 24]),
            }
            yield KeyReading(key=f"{name} {mode}", measures=measures)


def _correlation(classes: Array, profile: Array) -> float:
    a, b = classes - classes.mean(), profile - profile.mean()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))
