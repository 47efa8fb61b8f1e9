"""Tempo, time signature and key of songs that were taken apart first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.source import Samples
from sidestep_core.interfaces import Confidence, Measured
from sidestep_core.options import options_of
from sidestep_core.specs import BuildContext

from sidestep_captioners.analysis.judgement import confidence
from sidestep_captioners.analysis.signal import SignalAnalyzer
from sidestep_captioners.configs import SignalConfig
from sidestep_captioners.stems.configs import DemucsConfig, DemucsModelConfig, StemsAnalyzerConfig
from sidestep_captioners.stems.demucs import DemucsSeparator, resampled

Measure = Callable[[Samples, Samples, frozenset[str]], Mapping[str, Measured]]

DRUMS, VOCALS = "drums", "vocals"
# what has less power than this share of the song is what leaked into it
_LEAKED = 0.01
_SAME_TEMPO = 0.04
_SHORTEST = 12.0  # seconds: in less there is no metre to be found
_LEVELS: Sequence[Confidence] = ("low", "medium", "high")
# shares of the parts of a song that agree, where "medium" and "high" begin
_AGREEMENT = (0.5, 0.8)


class StemsAnalyzer:
    """Measures rhythm and key as the default analyser does, where no voice hinders it."""

    def __init__(self, config: StemsAnalyzerConfig, context: BuildContext) -> None:
        """Load the model that takes songs apart.

        Raises:
            CheckpointError: its weights are missing; the message names them and their place.
        """
        self._config = config
        shared = {option.name: getattr(config, option.name) for option in options_of(DemucsModelConfig)}
        self._separator = DemucsSeparator(DemucsConfig(device=context.device, **shared), context).__enter__()
        self._signal = SignalAnalyzer(SignalConfig(), context)

    def analyze(self, audio: Samples, wanted: frozenset[str]) -> Mapping[str, Measured]:
        """Return the wanted ones of `bpm`, `signature` and `key`; see `interfaces.Analyzer`."""
        stems = self._separator.separate(audio, lambda: False)
        rate = self._separator.rate
        parts = {name: resampled(stem, rate, SAMPLE_RATE)[:, : audio.shape[1]] for name, stem in stems.items()}
        rhythm, harmony = what_is_heard(audio, parts)
        if self._config.mode == "mid":
            return self._signal.analyze_parts(rhythm, harmony, wanted)
        return by_chunks(self._signal.analyze_parts, rhythm, harmony, wanted, self._config.chunks)


def what_is_heard(audio: Samples, stems: Mapping[str, Samples]) -> tuple[Samples, Samples]:
    """Return what rhythm and key are measured on: all but the voice, and all but voice and drums.

    Chords and bass change on the beat: with the drums alone fewer tempi are right. Where as good as nothing is left,
    the song itself is heard.
    """
    power = float(np.square(audio).mean())

    def without(*left_out: str) -> Samples:
        rest: Samples = np.sum([stem for name, stem in stems.items() if name not in left_out], axis=0)
        return rest if np.square(rest).mean() > _LEAKED * power else audio

    return without(VOCALS), without(VOCALS, DRUMS)


def by_chunks(
    measure: Measure, rhythm: Samples, harmony: Samples, wanted: frozenset[str], chunks: int
) -> Mapping[str, Measured]:
    """Return what most parts of a song say, as sure as many of them say it, but no surer than they are themselves.

    A short song has fewer parts than asked for.
    """
    length = rhythm.shape[1]
    count = max(1, min(chunks, int(length / SAMPLE_RATE / _SHORTEST)))
    edges = [length * number // count for number in range(count + 1)]
    found = [measure(rhythm[:, a:b], harmony[:, a:b], wanted) for a, b in pairwise(edges)]
    return {name: made for name in wanted if (made := agreed([part[name] for part in found if name in part], count))}


def agreed(said: Sequence[Measured], count: int) -> Measured | None:
    """Return the value that has most of what the parts believe, None where none says anything."""
    if not said:
        return None
    votes: dict[str, list[Measured]] = {}
    for measured in sorted(said, key=lambda measured: -measured.probability):
        value = next((value for value in votes if _same(value, measured.value)), measured.value)
        votes.setdefault(value, []).append(measured)
    order = sorted(votes, key=lambda value: -sum(measured.probability for measured in votes[value]))
    best = votes[order[0]]
    share = len(best) / count
    level = min(confidence(share, _AGREEMENT), best[0].confidence, key=_LEVELS.index)
    return Measured(
        value=order[0],
        confidence=level,
        probability=round(sum(measured.probability for measured in best) / count, 3),
        others=tuple(dict.fromkeys([*order[1:], *_others(best, order[0])]))[:2],
    )


def _others(best: Sequence[Measured], value: str) -> Iterator[str]:
    return (other for measured in best for other in measured.others if not _same(other, value))


def _same(value: str, other: str) -> bool:
    """Tell whether two values are one: tempi that differ by a beat are."""
    if value == other or not (value.isdecimal() and other.isdecimal()):
        return value == other
    return abs(int(value) / int(other) - 1) <= _SAME_TEMPO
