"""The default analyser on songs that were composed for it: none of them is among those its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import pytest
from known_songs import synth
from known_songs.compose import Clip, compose, plan
from known_songs.truth import same_tempo, same_tempo_or_octave
from sidestep_captioners.analysis.signal import SignalAnalyzer
from sidestep_captioners.configs import SignalConfig
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.interfaces import Measured
from sidestep_core.specs import BuildContext
from soxr import resample

EVERYTHING = frozenset({"bpm", "key", "signature"})
SET = 31
SMALL = (0, 3, 8, 11, 17, 20, 28, 33, 38, 41)  # every metre but the rare ones; two have no drums, two swing
Found = list[tuple[Clip, Mapping[str, Measured]]]


def sound(clip: Clip, seconds: float = 24.0) -> np.ndarray:
    """Return a clip as an analyser gets it."""
    mono = resample(synth.play(clip, compose(clip, seconds)), synth.RATE, SAMPLE_RATE).astype(np.float32)
    return np.stack([mono, mono])


def analyzer(**settings: int) -> SignalAnalyzer:
    return SignalAnalyzer(SignalConfig(**settings), BuildContext())


def measured(clips: list[Clip]) -> Found:
    return [(clip, analyzer().analyze(sound(clip), EVERYTHING)) for clip in clips]


@pytest.fixture(scope="module")
def songs() -> Found:
    """Ten songs and what was measured of them."""
    clips = plan(SET)
    return measured([clips[i] for i in SMALL])


def right(found: Found, field: str) -> int:
    truth = {"key": lambda clip: clip.key, "signature": lambda clip: clip.metre}
    return sum(result[field].value == truth[field](clip) for clip, result in found)


def test_nearly_every_tempo_is_right(songs: Found) -> None:
    assert sum(same_tempo(float(result["bpm"].value), clip.bpm) for clip, result in songs) >= 9
    assert all(same_tempo_or_octave(float(result["bpm"].value), clip.bpm) for clip, result in songs)


def test_nearly_every_key_is_right(songs: Found) -> None:
    assert right(songs, "key") >= 9


def test_nearly_every_time_signature_is_right(songs: Found) -> None:
    assert right(songs, "signature") >= 9


def test_most_values_are_certain_enough_to_be_written(songs: Found) -> None:
    levels = [value.confidence for _, result in songs for value in result.values()]
    assert levels.count("low") <= len(levels) // 5


def test_of_a_few_seconds_nothing_is_certain() -> None:
    found = analyzer().analyze(sound(plan(SET)[0])[:, : 9 * SAMPLE_RATE], EVERYTHING)
    assert {value.confidence for value in found.values()} == {"low"}
    assert found.keys() == EVERYTHING


def test_tempi_are_whole_numbers(songs: Found) -> None:
    assert all(result["bpm"].value.isdecimal() for _, result in songs)


def test_runners_up_are_other_values(songs: Found) -> None:
    assert all(value.value not in value.others for _, result in songs for value in result.values())


def test_only_what_is_wanted_is_measured() -> None:
    audio = sound(plan(SET)[0], 12.0)
    assert analyzer().analyze(audio, frozenset({"key"})).keys() == {"key"}
    assert analyzer().analyze(audio, frozenset({"bpm"})).keys() == {"bpm"}


def test_the_same_song_gives_the_same_values() -> None:
    audio = sound(plan(SET)[1], 12.0)
    assert analyzer().analyze(audio, EVERYTHING) == analyzer().analyze(audio, EVERYTHING)


def test_loudness_and_a_missing_channel_change_nothing() -> None:
    audio = sound(plan(SET)[2], 16.0)
    one_sided = np.stack([audio[0] * 0.1, np.zeros_like(audio[0])])
    values = [{k: v.value for k, v in analyzer().analyze(a, EVERYTHING).items()} for a in (audio, one_sided)]
    assert values[0] == values[1]


def test_a_range_of_tempi_holds() -> None:
    audio = sound(plan(SET)[3], 20.0)
    free = float(analyzer().analyze(audio, frozenset({"bpm"}))["bpm"].value)
    bound = float(analyzer(fastest=round(free * 0.8)).analyze(audio, frozenset({"bpm"}))["bpm"].value)
    assert bound <= free * 0.8


def test_a_song_of_two_tempi_is_not_said_to_have_one_for_certain() -> None:
    clip = attrs.evolve(plan(SET)[3], course="jump")
    assert analyzer().analyze(sound(clip, 40.0), EVERYTHING)["bpm"].confidence != "high"


def test_noise_has_nothing_that_is_certain() -> None:
    noise = np.random.default_rng(3).standard_normal((2, 20 * SAMPLE_RATE)).astype(np.float32) * 0.1
    found = analyzer().analyze(noise, EVERYTHING)
    assert all(value.confidence != "high" for value in found.values())


def test_a_moment_of_sound_has_no_rhythm() -> None:
    audio = sound(plan(SET)[0], 12.0)[:, :SAMPLE_RATE]
    assert not analyzer().analyze(audio, frozenset({"bpm", "signature"}))


def test_a_tempo_range_must_be_one() -> None:
    with pytest.raises(ValueError, match=r"slowest \(120\) must be below fastest \(120\)"):
        SignalConfig(slowest=120, fastest=120)


@pytest.mark.slow
def test_the_whole_set_reaches_the_published_accuracy() -> None:
    found = measured(plan(SET + 1))
    count = len(found)
    assert sum(same_tempo(float(result["bpm"].value), clip.bpm) for clip, result in found) >= 0.9 * count
    assert sum(same_tempo_or_octave(float(result["bpm"].value), clip.bpm) for clip, result in found) >= 0.97 * count
    assert right(found, "key") >= 0.92 * count
    assert right(found, "signature") >= 0.9 * count


@pytest.mark.slow
def test_high_confidence_is_right_in_nineteen_of_twenty() -> None:
    found = measured(plan(SET + 2, mixed=True))
    checks = {
        "bpm": lambda clip, value: same_tempo(float(value), clip.bpm),
        "key": lambda clip, value: value == clip.key,
        "signature": lambda clip, value: value == clip.metre,
    }
    high = [
        check(clip, result[field].value)
        for clip, result in found
        for field, check in checks.items()
        if result[field].confidence == "high"
    ]
    assert len(high) > 60
    assert sum(high) >= 0.95 * len(high)


def test_the_module_needs_no_model_library(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, sidestep_captioners.analysis.signal; print(sorted({'torch', 'librosa'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
