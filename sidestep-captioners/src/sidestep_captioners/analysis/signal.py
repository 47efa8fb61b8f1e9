"""The default analyser: tempo, time signature and key by signal processing alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import numpy as np
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.interfaces import Measured
from sidestep_core.specs import BuildContext

from sidestep_captioners.analysis.judgement import Weights, confidence, load_weights, probabilities
from sidestep_captioners.analysis.keys import KeyReading, key_readings
from sidestep_captioners.analysis.onsets import Samples, mono, onset_bands
from sidestep_captioners.analysis.pitches import find_pitches
from sidestep_captioners.analysis.rhythm import Reading, readings
from sidestep_captioners.analysis.tempo import SAME
from sidestep_captioners.configs import SignalConfig

# where "medium" and "high" begin, of probabilities; chosen on the songs that the weights were fitted to
TEMPO_LIMITS = (0.5, 0.8)
SIGNATURE_LIMITS = (0.6, 0.9)
KEY_LIMITS = (0.5, 0.8)
# a song that keeps to its tempo less than this has no tempo that could be written, or only a usual one
UNSTEADY, FREE = 0.8, 0.5
BRIEF = 10.0  # seconds: in less, too few bars are heard to be sure of anything
_OTHERS = 2  # runners-up that are named
_UNLIKELY = 0.02


class SignalAnalyzer:
    """Measures `bpm`, `signature` and `key`; needs numpy, scipy and soxr, no weights of a model."""

    def __init__(self, config: SignalConfig, context: BuildContext) -> None:
        self._config = config
        self._weights = load_weights()

    def analyze(self, audio: Samples, wanted: frozenset[str]) -> Mapping[str, Measured]:
        """Return the wanted ones of `bpm`, `signature` and `key`; see `interfaces.Analyzer`."""
        return self.analyze_parts(audio, audio, wanted)

    def analyze_parts(self, rhythm: Samples, harmony: Samples, wanted: frozenset[str]) -> Mapping[str, Measured]:
        """Measure the rhythm on one recording and the key on another of the same length, [channels, samples]."""
        sound = mono(harmony, SAMPLE_RATE)
        pitches = find_pitches(sound)
        found = {}
        if wanted & {"bpm", "signature"}:
            bands = onset_bands(sound if rhythm is harmony else mono(rhythm, SAMPLE_RATE))
            found.update(self._rhythm(readings(bands, pitches)))
        if "key" in wanted:
            found.update(judge_key(list(key_readings(pitches)), self._weights["key"]))
        if harmony.shape[-1] < BRIEF * SAMPLE_RATE:
            found = {name: attrs.evolve(value, confidence="low") for name, value in found.items()}
        return {name: value for name, value in found.items() if name in wanted}

    def _rhythm(self, found: Iterable[Reading]) -> dict[str, Measured]:
        low, high = self._config.slowest, self._config.fastest
        return judge_rhythm([r for r in found if low <= r.bpm <= high], self._weights["rhythm"])


def judge_rhythm(found: list[Reading], weights: Weights) -> dict[str, Measured]:
    """Return the likeliest `bpm` and the likeliest `signature` at it; nothing without readings."""
    if not found:
        return {}
    likely = probabilities([reading.measures for reading in found], weights)
    judged = list(zip(found, likely.tolist(), strict=True))
    tempi = _tempi(judged)
    bpm, probability = tempi[0]
    here = [(reading, p) for reading, p in judged if _same(reading.bpm, bpm)]
    signature = _by_signature(here)[0][0]
    metres = _by_signature(judged)  # a metre that holds at other tempi, too, is the surer
    trust = _trust(max(reading.steadiness for reading, _ in here))
    others = [(f"{other:.0f}", p) for other, p in tempi[1:]]
    return {
        "bpm": _measured(f"{bpm:.0f}", min(probability, trust), TEMPO_LIMITS, others),
        "signature": _measured(
            signature,
            min(dict(metres)[signature], trust),
            SIGNATURE_LIMITS,
            [(other, p) for other, p in metres if other != signature],
        ),
    }


def judge_key(found: list[KeyReading], weights: Weights) -> dict[str, Measured]:
    """Return the likeliest `key`; nothing without readings."""
    if not found:
        return {}
    likely = probabilities([reading.measures for reading in found], weights)
    order = np.argsort(-likely)
    (key, probability), *others = [(found[i].key, float(likely[i])) for i in order]
    return {"key": _measured(key, probability, KEY_LIMITS, others)}


def _tempi(judged: list[tuple[Reading, float]]) -> list[tuple[float, float]]:
    """Return tempi and how likely each is in any metre, the likeliest first, one for all that are as good as equal."""
    found: list[tuple[float, float]] = []
    for reading, _ in sorted(judged, key=lambda item: -item[1]):
        if not any(_same(reading.bpm, bpm) for bpm, _ in found):
            found.append((reading.bpm, sum(p for other, p in judged if _same(other.bpm, reading.bpm))))
    return sorted(found, key=lambda item: -item[1])


def _by_signature(judged: list[tuple[Reading, float]]) -> list[tuple[str, float]]:
    """Return time signatures and how likely each is at any of the tempi, the likeliest first."""
    found: dict[str, float] = {}
    for reading, p in judged:
        found[reading.signature] = found.get(reading.signature, 0.0) + p
    return sorted(found.items(), key=lambda item: -item[1])


def _same(bpm: float, other: float) -> bool:
    return abs(bpm / other - 1) <= SAME


def _trust(steadiness: float) -> float:
    """Return the most that can be believed of a rhythm that keeps to its tempo for a share of the song."""
    return 1.0 if steadiness >= UNSTEADY else TEMPO_LIMITS[0] if steadiness >= FREE else 0.0


def _measured(value: str, probability: float, limits: tuple[float, float], others: list[tuple[str, float]]) -> Measured:
    likely = tuple(other for other, p in others[:_OTHERS] if p >= _UNLIKELY)
    level = confidence(probability, limits)
    return Measured(value=value, confidence=level, probability=round(probability, 3), others=likely)
