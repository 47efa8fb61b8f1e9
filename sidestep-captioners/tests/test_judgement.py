"""From readings to values: what is likeliest, how sure that is, and what it may be instead."""

from __future__ import annotations

import math

import pytest
from sidestep_captioners.analysis.judgement import load_weights
from sidestep_captioners.analysis.keys import KeyReading
from sidestep_captioners.analysis.rhythm import Reading
from sidestep_captioners.analysis.signal import TEMPO_LIMITS, judge_key, judge_rhythm
from sidestep_core.interfaces import Measured

PLAIN = {"odds": 1.0}  # a measure that is the logarithm of a reading's odds


def reading(bpm: float, signature: str, odds: float, *, steadiness: float = 1.0) -> Reading:
    return Reading(bpm=bpm, signature=signature, steadiness=steadiness, measures={"odds": math.log(odds)})


def judged(*readings: Reading) -> dict[str, Measured]:
    return judge_rhythm(list(readings), PLAIN)


def test_a_tempo_is_as_likely_as_its_readings_in_all_metres_together() -> None:
    found = judged(reading(120, "4/4", 3), reading(120, "3/4", 3), reading(60, "4/4", 4))
    assert (found["bpm"].value, found["bpm"].probability) == ("120", 0.6)
    assert found["bpm"].others == ("60",)


def test_tempi_that_are_as_good_as_equal_are_one() -> None:
    found = judged(reading(120, "4/4", 2), reading(121, "3/4", 2), reading(60, "4/4", 3))
    assert found["bpm"].value in ("120", "121")
    assert found["bpm"].others == ("60",)


def test_the_time_signature_is_the_likeliest_one_at_the_tempo() -> None:
    found = judged(reading(120, "4/4", 5), reading(120, "3/4", 4), reading(180, "3/4", 3))
    assert found["signature"].value == "4/4"
    assert found["signature"].others == ("3/4",)


def test_a_time_signature_that_holds_at_other_tempi_is_the_surer() -> None:
    alone = judged(reading(120, "4/4", 6), reading(60, "3/4", 4))
    shared = judged(reading(120, "4/4", 6), reading(60, "4/4", 4))
    assert alone["signature"].probability == 0.6
    assert shared["signature"].probability == 1


@pytest.mark.parametrize(("steadiness", "level"), [(1.0, "high"), (0.7, "medium"), (0.3, "low")])
def test_a_song_that_does_not_keep_to_its_tempo_is_not_trusted(steadiness: float, level: str) -> None:
    found = judged(reading(120, "4/4", 99, steadiness=steadiness), reading(60, "4/4", 1))
    assert found["bpm"].confidence == level
    assert found["bpm"].value == "120"


def test_an_unsteady_tempo_is_as_likely_as_the_least_that_is_written() -> None:
    found = judged(reading(120, "4/4", 99, steadiness=0.7), reading(60, "4/4", 1))
    assert found["bpm"].probability == TEMPO_LIMITS[0]


def test_what_is_very_unlikely_is_not_named_as_a_runner_up() -> None:
    found = judged(reading(120, "4/4", 99.5), reading(60, "4/4", 0.5))
    assert found["bpm"].others == ()


def test_no_more_than_two_runners_up_are_named() -> None:
    found = judged(*(reading(bpm, "4/4", 10 - i) for i, bpm in enumerate((60, 80, 100, 120, 150))))
    assert found["bpm"].others == ("80", "100")


def test_the_likeliest_key_wins_and_the_next_ones_are_named() -> None:
    odds = {"C major": 6, "A minor": 3, "G major": 1}
    found = judge_key([KeyReading(key=key, measures={"odds": math.log(o)}) for key, o in odds.items()], PLAIN)["key"]
    assert (found.value, found.probability, found.confidence) == ("C major", 0.6, "medium")
    assert found.others == ("A minor", "G major")


def test_a_measure_without_a_weight_says_nothing() -> None:
    found = judge_key([KeyReading(key="C major", measures={"new": 9.0}), KeyReading(key="A minor", measures={})], PLAIN)
    assert found["key"].probability == 0.5


@pytest.mark.parametrize("name", ["periodicity", "steadiness", "bars alike", "4/4", "6/8"])
def test_the_shipped_weights_know_measures_of_rhythm(name: str) -> None:
    assert math.isfinite(load_weights()["rhythm"][name])


def test_the_shipped_weights_of_keys_speak_for_what_fits() -> None:
    weights = load_weights()["key"]
    assert all(weight > 0 for name, weight in weights.items() if name != "minor")
