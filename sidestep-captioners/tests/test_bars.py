"""What beats show of bars, on onsets and pitches that are known."""

from __future__ import annotations

import numpy as np
import pytest
from sidestep_captioners.analysis.bars import BeatView, view_beats
from sidestep_captioners.analysis.onsets import FPS, RATE
from sidestep_captioners.analysis.pitches import HOP, Pitches

BEAT = 50  # frames
BEATS = np.arange(10, 10 + 33 * BEAT, BEAT)


def bands(per_bar: int, *, parts: int = 2) -> np.ndarray:
    """Return onsets [4, frames]: low ones on the first beat of a bar, high ones on all parts of all beats."""
    found = np.zeros((4, int(BEATS[-1]) + BEAT))
    found[1, BEATS[::per_bar]] = 5
    for beat in BEATS:
        found[3, beat + np.arange(parts) * BEAT // parts] = 1
    found[0] = found[1:].sum(axis=0)
    return found


def pitches(per_bar: int) -> Pitches:
    """Return pitches whose chord changes with each bar, between two."""
    frames = int(BEATS[-1] * RATE / FPS / HOP) + 2
    beat = (np.arange(frames) * HOP * FPS / RATE - BEATS[0]) // BEAT
    chords = np.zeros((frames, 12))
    chords[np.arange(frames), np.where(beat // per_bar % 2 == 0, 0, 7)] = 1
    return Pitches(chords, chords, 0.0)


def view(per_bar: int, *, parts: int = 2) -> BeatView:
    return view_beats(bands(per_bar, parts=parts), pitches(per_bar), BEATS)


@pytest.mark.parametrize("per_bar", [3, 4, 5])
def test_beats_a_bar_apart_are_most_alike(per_bar: int) -> None:
    alike = view(per_bar).alike
    assert alike[per_bar] > 0.9
    assert alike[1:per_bar].max() < alike[per_bar] - 0.5


@pytest.mark.parametrize("per_bar", [3, 4])
def test_harmony_is_alike_after_two_bars_of_two_chords(per_bar: int) -> None:
    harmony = view(per_bar).harmony
    assert harmony[2 * per_bar] > 0.8 > 0 > harmony[per_bar]


def test_low_accents_stand_on_the_first_beats() -> None:
    low = view(4).low
    assert low[::4].min() > 10 * low[1::4].max()


def test_chords_change_at_bars() -> None:
    change = view(4).change
    others = np.delete(change, np.arange(0, len(change), 4))
    assert change[4::4].min() > others.max()


def test_the_inside_of_a_beat_tells_halves_from_thirds() -> None:
    halves, thirds = view(4, parts=2), view(4, parts=3)
    assert halves.at(1 / 2) > 4 * halves.at(1 / 3)
    assert min(thirds.at(1 / 3), thirds.at(2 / 3)) > 4 * thirds.at(1 / 2)


def test_the_inside_sums_to_one_whatever_the_loudness() -> None:
    quiet = view_beats(bands(4) * 0.01, pitches(4), BEATS)
    assert quiet.inside.sum() == pytest.approx(1, abs=1e-3)
    assert quiet.inside == pytest.approx(view(4).inside, abs=1e-3)


def test_two_beats_are_enough_and_say_nothing_of_likeness() -> None:
    short = view_beats(bands(4), pitches(4), BEATS[:2])
    assert not short.alike.any()
    assert not short.harmony.any()
