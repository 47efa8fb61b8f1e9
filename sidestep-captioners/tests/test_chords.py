"""Triads on pitch classes that are known."""

from __future__ import annotations

import numpy as np
import pytest
from sidestep_captioners.analysis.chords import find_triads, triad_classes

C_MAJOR, A_MINOR, G_MAJOR = 0, 19, 14


def sounding(*triads: int, frames: int = 20) -> np.ndarray:
    """Return the pitch classes of triads that sound one after the other, each for some frames."""
    return np.repeat(triad_classes()[list(triads)], frames, axis=0)


def noisy(classes: np.ndarray, level: float) -> np.ndarray:
    return classes + level * np.random.default_rng(0).random(classes.shape)


def test_there_are_24_triads_of_three_notes_and_no_two_are_alike() -> None:
    found = triad_classes()
    assert found.shape == (24, 12)
    assert found.sum(axis=1).tolist() == [3.0] * 24
    assert len({tuple(row) for row in found}) == 24


@pytest.mark.parametrize(
    ("triad", "notes"), [(C_MAJOR, {0, 4, 7}), (A_MINOR, {9, 0, 4}), (G_MAJOR, {7, 11, 2}), (23, {11, 2, 6})]
)
def test_a_triad_is_twice_its_root_and_one_more_in_minor(triad: int, notes: set[int]) -> None:
    assert set(np.flatnonzero(triad_classes()[triad])) == notes


@pytest.mark.parametrize("triad", range(24))
def test_every_triad_is_found(triad: int) -> None:
    assert set(find_triads(sounding(triad)).tolist()) == {triad}


def test_a_sequence_is_found_with_its_changes() -> None:
    found = find_triads(noisy(sounding(C_MAJOR, A_MINOR, G_MAJOR, C_MAJOR), 0.3))
    changes = [found[0], *found[1:][found[1:] != found[:-1]]]
    assert changes == [C_MAJOR, A_MINOR, G_MAJOR, C_MAJOR]
    assert np.abs(np.flatnonzero(np.diff(found)) + 1 - [20, 40, 60]).max() <= 3


def test_a_passing_note_does_not_change_the_chord() -> None:
    classes = sounding(C_MAJOR, frames=40)
    classes[20] = triad_classes()[A_MINOR]
    assert set(find_triads(classes).tolist()) == {C_MAJOR}


def test_a_fourth_note_leaves_the_triad_what_it_is() -> None:
    classes = sounding(G_MAJOR)
    classes[:, 5] = 0.6  # G7
    assert set(find_triads(classes).tolist()) == {G_MAJOR}


def test_silence_between_chords_goes_on_with_the_chord_before() -> None:
    classes = sounding(C_MAJOR, G_MAJOR)
    gap = np.zeros((15, 12))
    found = find_triads(np.concatenate([classes[:20], gap, classes[20:]]))
    assert set(found.tolist()) == {C_MAJOR, G_MAJOR}
    assert set(found[:18].tolist()) == {C_MAJOR}


def test_one_frame_is_enough() -> None:
    assert find_triads(sounding(A_MINOR, frames=1)).tolist() == [A_MINOR]


def test_strength_does_not_matter() -> None:
    classes = noisy(sounding(C_MAJOR, A_MINOR), 0.2)
    assert find_triads(classes * 0.01).tolist() == find_triads(classes).tolist()
