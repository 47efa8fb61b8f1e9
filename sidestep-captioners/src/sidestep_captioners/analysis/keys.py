"""Key: each of the 24 keys is judged by the pitch classes of the song as they stand to its tonic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import numpy as np

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
_SECTION = int(8 * RATE / HOP)  # frames


@attrs.frozen(eq=False, kw_only=True)
class KeyReading:
    """One key that a song may be in; `measures` is what speaks for or against it, by name."""

    key: str
    measures: Mapping[str, float]


def key_readings(pitches: Pitches) -> Iterator[KeyReading]:
    """Yield the 24 keys, `C major` first; none where nothing sounds."""
    chords, bass = pitches.chords.mean(axis=0), pitches.bass.mean(axis=0)
    if not chords.any():
        return
    sections = [pitches.chords[at : at + _SECTION].mean(axis=0) for at in range(0, len(pitches.chords), _SECTION)]
    for tonic, name in enumerate(TONICS):
        for mode in ("major", "minor"):
            shaath, albrecht = np.roll(_SHAATH[mode], tonic), np.roll(_ALBRECHT[mode], tonic)
            measures = {
                mode: 1.0,
                "fits Sha'ath": _correlation(chords, shaath),
                "fits Albrecht": _correlation(chords, albrecht),
                "bass fits Albrecht": _correlation(bass, albrecht),
                "sections fit Albrecht": float(np.mean([_correlation(section, albrecht) for section in sections])),
                **_from_tonic(f"in {mode}", chords, tonic),
                **_from_tonic("in the bass", bass, tonic),
            }
            yield KeyReading(key=f"{name} {mode}", measures=measures)


def _correlation(classes: Array, profile: Array) -> float:
    a, b = classes - classes.mean(), profile - profile.mean()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def _from_tonic(where: str, classes: Array, tonic: int) -> dict[str, float]:
    """Return the strength of each class by its distance from a tonic in semitones, the strongest 1."""
    turned = np.roll(classes, -tonic) / (classes.max() + 1e-9)
    return {f"{step} {where}": float(strength) for step, strength in enumerate(turned)}
