"""Songs of which everything is known: what is said of them is what they are."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from known_songs import synth
from known_songs.compose import BASS, CHORDS, DRUMS, LEAD, PITCHES, Clip, compose, plan, seconds_at
from known_songs.truth import key_credit, same_tempo, same_tempo_or_octave

CLIP = plan(1)[0]
SCALES = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10, 11}}  # 11: the dominant's third


def classes(clip: Clip, *channels: int, seconds: float = 30.0) -> set[int]:
    """Return the pitch classes of a clip as steps above its tonic."""
    notes = compose(clip, seconds)
    return {(note.pitch - clip.tonic) % 12 for channel in channels for note in notes[channel]}


def test_a_set_has_every_key_twice_and_five_metres() -> None:
    clips = plan(3)
    assert len(clips) == 48
    assert sorted(clip.key for clip in clips) == sorted(2 * [f"{p} {m}" for p in PITCHES for m in SCALES])
    assert {clip.metre for clip in clips} == {"4/4", "3/4", "6/8", "5/4", "12/8"}
    assert all(60 <= clip.bpm <= 180 for clip in clips)


def test_names_are_those_of_files_and_no_two_are_the_same() -> None:
    names = [clip.name for clip in plan(3)]
    assert len(set(names)) == len(names)
    assert not set("/\\: ") & set("".join(names))


def test_each_number_is_another_set_and_the_same_one_each_time() -> None:
    assert plan(1) == plan(1)
    assert [clip.key for clip in plan(1)] != [clip.key for clip in plan(2)]
    assert compose(CLIP, 20.0) == compose(CLIP, 20.0)


def test_a_mixed_set_has_drums_of_other_styles_and_songs_without() -> None:
    clips = plan(1, mixed=True)
    assert any(clip.drums not in ("", clip.style) for clip in clips)
    assert 4 <= sum(not clip.drums for clip in clips) <= 24
    assert all(clip.drums == clip.style for clip in plan(1))


@pytest.mark.parametrize("clip", plan(1)[::6], ids=lambda clip: clip.name)
def test_all_notes_are_of_the_key(clip: Clip) -> None:
    assert classes(clip, BASS, CHORDS, LEAD) <= SCALES[clip.mode]


def test_no_drums_are_played_where_there_are_none() -> None:
    assert compose(CLIP, 20.0)[DRUMS]
    assert not compose(attrs.evolve(CLIP, drums=""), 20.0)[DRUMS]


def test_most_songs_end_on_their_tonic_and_some_do_not() -> None:
    ends = []
    for clip in plan(4):
        last = max(compose(clip, 20.0)[BASS], key=lambda note: note.start)
        ends.append((last.pitch - clip.tonic) % 12 == 0)
    assert 24 < sum(ends) < 48


def test_a_steady_song_has_its_beats_where_its_tempo_says() -> None:
    assert [seconds_at(CLIP, beat, 64) for beat in (0, 1, 32)] == pytest.approx([0, 60 / CLIP.bpm, 32 * 60 / CLIP.bpm])


def test_the_second_half_of_a_jump_is_faster() -> None:
    clip = attrs.evolve(CLIP, course="jump")
    first, second = (seconds_at(clip, b + 1, 64) - seconds_at(clip, b, 64) for b in (10, 50))
    assert first / second == pytest.approx(1.3)


def test_a_drift_wanders_by_less_than_four_per_cent() -> None:
    clip = attrs.evolve(CLIP, course="drift")
    gaps = np.diff([seconds_at(clip, beat, 64) for beat in range(65)]) * CLIP.bpm / 60
    assert np.abs(gaps - 1).max() < 0.04
    assert np.ptp(gaps) > 0.02


def test_the_synthesiser_plays_all_there_is() -> None:
    notes = compose(CLIP, 10.0)
    sound = synth.play(CLIP, notes)
    assert 0.1 < np.abs(sound).max() <= 1
    assert len(sound) / synth.RATE > max(note.start for some in notes.values() for note in some)


@pytest.mark.parametrize(
    ("bpm", "right", "octave"),
    [(100, True, True), (103, True, True), (106, False, False), (51, False, True), (300, False, True)],
)
def test_a_tempo_is_right_within_four_per_cent(bpm: float, right: bool, octave: bool) -> None:
    assert (same_tempo(bpm, 100), same_tempo_or_octave(bpm, 100)) == (right, octave)


@pytest.mark.parametrize(
    ("key", "credit"),
    [
        ("A minor", 1.0),
        ("E minor", 0.5),
        ("D minor", 0.5),
        ("C major", 0.3),
        ("A major", 0.2),
        ("F major", 0.0),
        ("B minor", 0.0),
    ],
)
def test_near_keys_have_some_credit(key: str, credit: float) -> None:
    assert key_credit(key, "A minor") == credit


def test_the_relative_of_a_major_key_lies_below() -> None:
    assert key_credit("A minor", "C major") == 0.3
    assert key_credit("D# minor", "C major") == 0.0
