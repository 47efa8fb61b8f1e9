"""Tempo and time signature: every pair of a possible tempo and a metre is judged by the same few measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import numpy as np

from sidestep_captioners.analysis.bars import BeatView, contrast, lag_contrast, peak_contrast, ratio, view_beats
from sidestep_captioners.analysis.beats import Frames, fitted_bpm, track_beats
from sidestep_captioners.analysis.onsets import Array
from sidestep_captioners.analysis.pitches import Pitches
from sidestep_captioners.analysis.tempo import candidates, local_periodicity, steadiness

METRES: Mapping[str, tuple[int, int]] = {"4/4": (4, 2), "3/4": (3, 2), "6/8": (2, 3), "5/4": (5, 2), "12/8": (4, 3)}
"""Time signature -> beats in a bar and parts of a beat; the beat is what a listener taps."""
_FEWEST_BEATS = 9
_USUAL_BPM = 110


@attrs.frozen(eq=False, kw_only=True)
class Reading:
    """One way to hear the rhythm of a song.

    Attributes:
        bpm: beats a minute.
        signature: time signature.
        steadiness: share of the song that keeps to the tempo, 0 to 1.
        measures: what speaks for or against it, by name.
    """

    bpm: float
    signature: str
    steadiness: float
    measures: Mapping[str, float]


def readings(bands: Array, pitches: Pitches) -> Iterator[Reading]:
    """Yield the ways to hear a rhythm, in no order; none where there are too few beats."""
    local = local_periodicity(bands)
    for candidate in candidates(bands):
        beats = track_beats(bands, candidate.bpm)
        if len(beats) < _FEWEST_BEATS:
            continue
        view, bpm = view_beats(bands, pitches, beats), fitted_bpm(beats, candidate.bpm)
        steady = steadiness(local, candidate.bpm)
        shared = {"periodicity": candidate.periodicity, "pulse": _pulse(bands, beats), "steadiness": steady}
        for signature in METRES:
            measures = {**shared, **_bar_measures(view, signature), **_beat_measures(view, bpm, signature)}
            yield Reading(bpm=bpm, signature=signature, steadiness=steady, measures=measures)


def _bar_measures(view: BeatView, signature: str) -> dict[str, float]:
    beats, _ = METRES[signature]
    return {
        signature: 1.0,
        "bars alike": lag_contrast(view.alike, beats),
        "bars of like harmony": lag_contrast(view.harmony, beats),
        "next bar alike": peak_contrast(view.alike, beats),
        "next bar of like harmony": peak_contrast(view.harmony, beats),
        "low accent of bars": contrast(view.low, beats),
        "change of harmony with bars": contrast(view.change, beats),
    }


def _beat_measures(view: BeatView, bpm: float, signature: str) -> dict[str, float]:
    """Return the measures that mean one thing where beats have two parts and another where they have three."""
    octave, beat, half = float(np.log2(bpm / _USUAL_BPM)), view.at(0), view.at(1 / 2)
    quarters, thirds = (view.at(1 / 4) + view.at(3 / 4)) / 2, min(view.at(1 / 3), view.at(2 / 3))
    measures = {
        "tempo": octave,
        "tempo squared": octave**2,
        "thirds over halves": ratio(thirds, max(half, quarters)),
        "second third over half": ratio(view.at(2 / 3), half),
        "half over beat": ratio(half, beat),
        "quarters over beat": ratio(quarters, beat),
        "thirds over beat": ratio(thirds, beat),
        "pairs of beats alike": float(view.alike[2] - view.alike[1]),
        "beats alike": float(view.alike[1:].mean()),
        "change of harmony": float(view.change.mean()),
    }
    parts = "in threes" if METRES[signature][1] == 3 else "in twos"
    return {f"{name}, {parts}": value for name, value in measures.items()}


def _pulse(bands: Array, beats: Frames) -> float:
    """Return how far onsets at the beats stand out from all, as a logarithm."""
    onsets = bands[0] + 0.5 * bands[1]
    return float(np.log(onsets[beats].mean() / (onsets.mean() + 1e-9) + 1e-9))
