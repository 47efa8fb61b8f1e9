"""The analyser that takes songs apart: on perfect stems, and with the real separator on a small model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soxr
from known_songs import synth
from known_songs.compose import DRUMS as DRUM_CHANNEL
from known_songs.compose import Note, compose, plan
from sidestep_captioners.analysis.signal import SignalAnalyzer
from sidestep_captioners.configs import SignalConfig
from sidestep_captioners.stems.analyzer import StemsAnalyzer, agreed, by_chunks, what_is_heard
from sidestep_captioners.stems.configs import StemsAnalyzerConfig
from sidestep_core.audio.source import Samples
from sidestep_core.errors import CheckpointError
from sidestep_core.interfaces import Confidence, Measured
from sidestep_core.specs import BuildContext
from tiny_demucs import write_tiny_demucs

CLIP = plan(31)[3]
SECONDS = 48.0
ALL = frozenset({"bpm", "key", "signature"})


def sound(notes: Mapping[int, list[Note]]) -> Samples:
    """Return notes as [2, samples] at 48 kHz."""
    played = soxr.resample(synth.play(CLIP, notes), synth.RATE, 48000)[: round(SECONDS * 48000)]
    padded = np.pad(played, (0, round(SECONDS * 48000) - len(played)))
    return np.stack([padded, padded]).astype(np.float32)


@pytest.fixture(scope="module")
def stems() -> dict[str, Samples]:
    """A song in perfect stems."""
    notes = compose(CLIP, SECONDS)
    drums, other = {DRUM_CHANNEL: notes[DRUM_CHANNEL]}, {c: n for c, n in notes.items() if c != DRUM_CHANNEL}
    silence = np.zeros((2, round(SECONDS * 48000)), np.float32)
    return {"drums": sound(drums), "bass": silence, "other": sound(other), "vocals": silence}


def say(value: str, probability: float = 0.9, confidence: Confidence = "high") -> Measured:
    """Return what a part of a song says."""
    return Measured(value=value, confidence=confidence, probability=probability)


@pytest.mark.parametrize("chunks", [0, 3])
def test_tempo_metre_and_key_are_found_on_stems(stems: dict[str, Samples], chunks: int) -> None:
    rhythm, harmony = what_is_heard(stems["drums"] + stems["other"], stems)
    measure = SignalAnalyzer(SignalConfig(), BuildContext()).analyze_parts
    found = by_chunks(measure, rhythm, harmony, ALL, chunks) if chunks else measure(rhythm, harmony, ALL)
    assert float(found["bpm"].value) == pytest.approx(CLIP.bpm, rel=0.02)
    assert (found["key"].value, found["signature"].value) == (CLIP.key, "4/4")


def test_the_voice_is_not_heard_and_drums_have_no_key() -> None:
    levels = {"drums": 1, "bass": 2, "other": 3, "vocals": 40}
    stems = {name: np.full((2, 100), level, np.float32) for name, level in levels.items()}
    rhythm, harmony = what_is_heard(np.full((2, 100), 5, np.float32), stems)
    assert (rhythm == 6).all()
    assert (harmony == 5).all()


def test_where_nothing_is_left_the_song_is_heard() -> None:
    song, silence = np.ones((2, 100), np.float32), np.full((2, 100), 0.01, np.float32)
    rhythm, harmony = what_is_heard(song, {name: silence for name in ("drums", "bass", "other", "vocals")})
    assert rhythm is harmony is song


def test_most_parts_decide() -> None:
    found = agreed([say("120"), say("121", 0.8), say("60", 0.99), say("119"), say("120")], 5)
    assert found is not None
    assert (found.value, found.confidence, found.others) == ("120", "high", ("60",))
    assert found.probability == pytest.approx((0.9 * 3 + 0.8) / 5)


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ([say("4/4"), say("4/4"), say("3/4", 0.5), say("6/8", 0.4)], "medium"),
        ([say("4/4"), say("3/4", 0.5), say("6/8", 0.4)], "low"),
        ([say("4/4", 0.6, "medium")] * 3, "medium"),
        ([say("4/4")], "high"),
    ],
)
def test_parts_that_disagree_are_not_relied_on(said: list[Measured], level: str) -> None:
    found = agreed(said, len(said))
    assert found is not None
    assert (found.value, found.confidence) == ("4/4", level)


def test_parts_that_say_nothing_count_as_doubt() -> None:
    assert agreed([], 3) is None
    found = agreed([say("A minor")], 3)
    assert found is not None
    assert found.confidence == "low"


def test_a_short_song_has_fewer_parts() -> None:
    lengths: list[int] = []

    def measure(rhythm: Samples, harmony: Samples, wanted: frozenset[str]) -> dict[str, Measured]:
        lengths.append(rhythm.shape[1])
        assert rhythm.shape == harmony.shape
        return {}

    audio = np.zeros((2, 30 * 48000), np.float32)
    assert by_chunks(measure, audio, audio, ALL, 5) == {}
    assert lengths == [15 * 48000] * 2


@pytest.mark.parametrize("mode", ["mid", "sas"])
def test_a_song_is_taken_apart_and_measured(tmp_path: Path, mode: str) -> None:
    config = StemsAnalyzerConfig(weights=write_tiny_demucs(tmp_path), mode=mode)  # type: ignore[arg-type]
    audio = np.random.default_rng(0).normal(scale=0.1, size=(2, 3 * 48000)).astype(np.float32)
    found = StemsAnalyzer(config, BuildContext(device="cpu")).analyze(audio, frozenset({"key"}))
    assert found.keys() <= {"key"}


def test_missing_weights_are_said_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights of htdemucs: put "):
        StemsAnalyzer(StemsAnalyzerConfig(weights=tmp_path), BuildContext())
