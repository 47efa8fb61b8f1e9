"""A fingerprint depends on what is heard, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sidestep_core.doctor.fingerprint import CODES_A_SECOND, Codes, Listener

RATE = 44_100
Wave = NDArray[np.float32]


def sound(seconds: float, seed: int = 0) -> Wave:
    """Return [samples, 2] of noise whose colour changes all the time."""
    random = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    noise = random.normal(size=samples)
    swell = np.interp(
        np.arange(samples), np.linspace(0, samples, int(9 * seconds) + 2), random.random(int(9 * seconds) + 2)
    )
    smooth = np.convolve(noise, np.ones(40) / 40, mode="same")
    return np.stack([swell * smooth + (1 - swell) * 0.2 * noise] * 2, axis=1).astype(np.float32) * 0.3


def fingerprint(wave: Wave, *, block: int = 65_536, rate: int = RATE) -> Codes:
    listener = Listener(rate)
    for start in range(0, len(wave), block):
        listener.hear(wave[start : start + block])
    return listener.fingerprint()


def differing(one: Codes, other: Codes) -> float:
    length = min(len(one), len(other))
    return float(np.unpackbits((one[:length] ^ other[:length]).view(np.uint8)).mean())


@pytest.fixture(scope="module")
def heard() -> Codes:
    return fingerprint(sound(8))


@pytest.mark.parametrize("block", [1_000, 4_096, 44_100, 10_000_000])
def test_it_does_not_depend_on_how_a_file_is_read(heard: Codes, block: int) -> None:
    assert differing(fingerprint(sound(8), block=block), heard) < 0.001


def test_it_is_the_same_each_time(heard: Codes) -> None:
    assert np.array_equal(fingerprint(sound(8)), heard)


@pytest.mark.parametrize("gain", [0.01, 0.3, 3.0])
def test_it_does_not_depend_on_the_level(heard: Codes, gain: float) -> None:
    assert differing(fingerprint(np.float32(gain) * sound(8)), heard) < 0.02


def test_it_does_not_depend_on_the_sides(heard: Codes) -> None:
    wave = sound(8)
    assert differing(fingerprint(np.stack([2 * wave[:, 0], 0 * wave[:, 1]], axis=1)), heard) < 0.001


def test_a_little_noise_changes_few_bits(heard: Codes) -> None:
    wave = sound(8)
    noise = np.random.default_rng(9).normal(size=wave.shape).astype(np.float32)
    assert differing(fingerprint(wave + 0.002 * noise), heard) < 0.2


def test_another_sound_differs_in_half_of_the_bits(heard: Codes) -> None:
    assert differing(fingerprint(sound(8, seed=1)), heard) == pytest.approx(0.5, abs=0.05)


def test_a_later_start_moves_the_codes(heard: Codes) -> None:
    later = fingerprint(sound(8)[round(10 * RATE / CODES_A_SECOND) :])
    assert differing(later, heard[10:]) < 0.1
    assert differing(later, heard) > 0.3


def test_silence_has_codes_that_say_nothing() -> None:
    assert set(fingerprint(np.zeros((3 * RATE, 2), np.float32)).tolist()) == {0}


@pytest.mark.parametrize("samples", [0, 1, 1_000, 20_000])
def test_too_little_sound_has_no_codes(samples: int) -> None:
    assert len(fingerprint(np.ones((samples, 2), np.float32))) == 0


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000, 96_000])
def test_any_rate_gives_as_many_codes_a_second(rate: int) -> None:
    wave = np.random.default_rng(0).normal(size=(4 * rate, 1)).astype(np.float32)
    assert len(fingerprint(wave, rate=rate)) == pytest.approx(4 * CODES_A_SECOND, abs=10)
