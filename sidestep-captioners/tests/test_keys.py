"""Pitch classes and keys on tones that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from sidestep_captioners.analysis.judgement import confidence, load_weights, probabilities
from sidestep_captioners.analysis.keys import TONICS, key_readings
from sidestep_captioners.analysis.onsets import RATE
from sidestep_captioners.analysis.pitches import Pitches, find_pitches
from sidestep_captioners.analysis.signal import judge_key, judge_rhythm


def tones(pitches: Sequence[float], seconds: float = 2.0) -> np.ndarray:
    """Return sines of MIDI pitches, together."""
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * time) for p in pitches).astype(np.float32)  # type: ignore[union-attr]


def cadence(tonic: int, chords: Sequence[Sequence[int]]) -> np.ndarray:
    """Return chords, each with its root in the bass, on a tonic."""
    return np.concatenate([tones([tonic + chord[0] - 12, *(tonic + step for step in chord)], 1.0) for chord in chords])


MAJOR = ([0, 4, 7], [5, 9, 12], [7, 11, 14], [0, 4, 7], [9, 12, 16], [5, 9, 12], [7, 11, 14], [0, 4, 7])
MINOR = ([0, 3, 7], [5, 8, 12], [7, 11, 14], [0, 3, 7], [8, 12, 15], [5, 8, 12], [7, 11, 14], [0, 3, 7])


def test_a_tone_is_its_pitch_class_in_the_band_it_lies_in() -> None:
    found = find_pitches(tones([69]))  # A at 440 Hz
    assert found.chords.mean(axis=0).argmax() == 9
    low = find_pitches(tones([45]))  # A at 110 Hz
    assert low.bass.mean(axis=0).argmax() == 9


def test_each_frame_has_twelve_classes_of_which_the_strongest_is_one() -> None:
    found = find_pitches(tones([60, 64, 67]))
    assert found.chords.shape[1] == found.bass.shape[1] == 12
    assert found.chords[3:-3].max(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("cents", [-30, 0, 25])
def test_tuning_is_found_and_taken_out(cents: int) -> None:
    found = find_pitches(tones([pitch + cents / 100 for pitch in (60, 64, 67)]))
    assert found.cents == pytest.approx(cents, abs=4)
    assert set(np.argsort(found.chords.mean(axis=0))[-3:]) == {0, 4, 7}


def test_partials_of_a_note_are_not_notes() -> None:
    partials = [45 + 12 * np.log2(k) for k in (1, 2, 3, 4, 5, 6, 7)]  # of A at 110 Hz
    strength = find_pitches(tones(partials)).chords[3:-3].mean(axis=0)
    assert strength.argmax() == 9
    # its third, fifth and seventh partial: E, C sharp and nearly G
    assert max(strength[4], strength[1], strength[7]) < 0.7


def test_a_note_that_is_played_where_a_partial_lies_remains() -> None:
    strength = find_pitches(tones([45, 64, 64, 64, 64])).chords[3:-3].mean(axis=0)
    assert strength[4] == pytest.approx(1)


def test_the_bass_hears_no_high_notes() -> None:
    found = find_pitches(tones([33, 76]))  # A at 55 Hz, E at 659 Hz
    assert found.bass[3:-3].mean(axis=0)[4] < 0.1
    assert found.chords[3:-3].mean(axis=0)[4] == pytest.approx(1)


def test_a_moment_shorter_than_a_window_has_pitches() -> None:
    assert find_pitches(tones([69], 0.05)).chords.shape[1] == 12


def test_silence_has_no_pitches_and_no_key() -> None:
    silence = find_pitches(np.zeros(RATE, dtype=np.float32))
    assert not silence.chords.any()
    assert list(key_readings(silence)) == []
    assert judge_key([], load_weights()["key"]) == {}


def test_every_key_is_read_once() -> None:
    keys = [reading.key for reading in key_readings(find_pitches(tones([60, 64, 67])))]
    assert keys == [f"{tonic} {mode}" for tonic in TONICS for mode in ("major", "minor")]


def test_all_keys_are_judged_alike() -> None:
    classes = np.random.default_rng(1).random((50, 12))
    first, turned = (
        list(key_readings(Pitches(np.roll(classes, by, axis=1), np.roll(classes, by, axis=1), 0.0))) for by in (0, 3)
    )
    # what C is to the one, D# is to the other
    assert first[0].measures == pytest.approx(turned[6].measures)


@pytest.mark.parametrize("tonic", [57, 62, 66])
@pytest.mark.parametrize(("chords", "mode"), [(MAJOR, "major"), (MINOR, "minor")])
def test_the_key_of_a_cadence_is_found(tonic: int, chords: Sequence[Sequence[int]], mode: str) -> None:
    found = judge_key(list(key_readings(find_pitches(cadence(tonic, chords)))), load_weights()["key"])["key"]
    assert found.value == f"{TONICS[tonic % 12]} {mode}"
    assert found.confidence != "low"


def measures_of(key: str, sound: np.ndarray) -> Mapping[str, float]:
    return next(reading.measures for reading in key_readings(find_pitches(sound)) if reading.key == key)


def test_where_a_song_begins_and_ends_speaks_for_its_key() -> None:
    sound = cadence(60, MAJOR)
    at_home, away = measures_of("C major", sound), measures_of("G major", sound)
    assert (at_home["begins on its chord"], away["begins on its chord"]) == (1, 0)
    assert at_home["tonic in the bass at the end"] > away["tonic in the bass at the end"]


def test_the_dominant_is_a_major_triad_in_minor_too() -> None:
    sound = cadence(57, MINOR)  # two of eight chords are E major
    assert measures_of("A minor", sound)["time on the dominant"] == pytest.approx(2 / 8, abs=0.06)
    assert measures_of("C major", sound)["time on the dominant"] == pytest.approx(0, abs=0.06)


def test_silence_around_a_song_changes_nothing() -> None:
    sound = np.concatenate([cadence(60, MAJOR), tones([48, 60, 64, 67], 4.0)])
    silence = np.zeros(3 * RATE, dtype=np.float32)
    framed = measures_of("C major", np.concatenate([silence, sound, silence]))
    assert framed == pytest.approx(measures_of("C major", sound), abs=0.05)


def test_all_twelve_tones_together_have_no_key_to_rely_on() -> None:
    found = judge_key(list(key_readings(find_pitches(tones(range(48, 72))))), load_weights()["key"])["key"]
    assert found.confidence != "high"


def test_without_readings_there_is_no_rhythm() -> None:
    assert judge_rhythm([], load_weights()["rhythm"]) == {}


def test_probabilities_sum_to_one_and_follow_the_weights() -> None:
    likely = probabilities([{"a": 1.0}, {"a": 0.0, "b": 5.0}], {"a": np.log(3.0)})
    assert likely == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(("probability", "level"), [(0.49, "low"), (0.5, "medium"), (0.79, "medium"), (0.8, "high")])
def test_confidence_follows_the_limits(probability: float, level: str) -> None:
    assert confidence(probability, (0.5, 0.8)) == level
