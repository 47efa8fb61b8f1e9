"""What the data doctor hears in real files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.decode import decode
from sidestep_core.doctor.fingerprint import CODES_A_SECOND
from sidestep_core.doctor.listen import Heard, Listening, listen
from sidestep_core.errors import AudioError

RATE = 44_100
Wave = NDArray[np.float64]


def music(seconds: float, *, channels: int = 2, seed: int = 0) -> Wave:
    """Return [samples, channels] of noise in bands that swell, which no two moments of have alike; peak 0.5."""
    random = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    steps = random.normal(size=(max(2, int(8 * seconds)), 6))
    time = np.linspace(0, len(steps) - 1, samples)
    tones = [
        np.exp(np.interp(time, np.arange(len(steps)), steps[:, n])) * np.sin(2 * np.pi * f * np.arange(samples) / RATE)
        for n, f in enumerate((220.0, 330.0, 495.0, 740.0, 1100.0, 1650.0))
    ]
    wave = sum(tones) + 0.01 * random.normal(size=samples)
    return np.tile(0.5 * wave[:, None] / np.abs(wave).max(), channels)


def heard(
    path: Path, wave: NDArray[Any], *, rate: int = RATE, subtype: str | None = None, seconds: float = 0.0
) -> Heard:
    soundfile.write(path, wave, rate, subtype=subtype)
    return listen(Listening(path, seconds))


def test_plain_music_has_nothing_wrong_with_it(tmp_path: Path) -> None:
    found = heard(tmp_path / "a.wav", music(3))
    assert (found.silent, found.clipped, found.quiet) == (False, 0, 0)
    assert found.peak == pytest.approx(0.5, abs=1e-4)
    assert len(found.fingerprint) == pytest.approx(3 * CODES_A_SECOND, abs=9)


@pytest.mark.parametrize(("rate", "seconds"), [(44_100, 0.0), (48_000, 0.0), (22_050, 1.3), (8_000, 0.7)])
def test_the_length_is_the_one_that_preprocessing_has_to_the_sample(tmp_path: Path, rate: int, seconds: float) -> None:
    found = heard(tmp_path / "a.wav", music(2)[:50_001], rate=rate, seconds=seconds)
    assert round(found.seconds * SAMPLE_RATE) == decode(tmp_path / "a.wav", max_seconds=seconds).shape[1]


def test_the_same_samples_have_the_same_hash_in_any_lossless_file(tmp_path: Path) -> None:
    wave = np.round(32_000 * music(1)).astype(np.int16)
    one, other = heard(tmp_path / "a.wav", wave), heard(tmp_path / "a.flac", wave)
    assert one.content == other.content
    assert one == other


@pytest.mark.parametrize("change", ["sample", "rate", "channels"])
def test_other_samples_have_another_hash(tmp_path: Path, change: str) -> None:
    wave = music(1)
    changed = wave.copy()
    changed[1234] += 0.01
    others = {
        "sample": heard(tmp_path / "b.wav", changed),
        "rate": heard(tmp_path / "c.wav", wave, rate=48_000),
        "channels": heard(tmp_path / "d.wav", wave[:, :1]),
    }
    assert heard(tmp_path / "a.wav", wave).content != others[change].content


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("level", [1.0, 0.7])
def test_cut_peaks_are_counted_at_any_level(tmp_path: Path, subtype: str, level: float) -> None:
    wave = level * np.clip(6 * music(2, channels=1), -1, 1)
    assert heard(tmp_path / "a.wav", wave, subtype=subtype).clipped > 100


def test_samples_beyond_full_scale_are_cut_peaks(tmp_path: Path) -> None:
    assert heard(tmp_path / "a.wav", 6 * music(2), subtype="FLOAT").clipped > 100


@pytest.mark.parametrize("gain", [0.1, 1.0, 2.0])
def test_peaks_that_are_not_cut_are_not_counted(tmp_path: Path, gain: float) -> None:
    assert heard(tmp_path / "a.wav", gain * music(2)).clipped == 0


def test_the_round_top_of_a_bass_note_is_no_cut_peak(tmp_path: Path) -> None:
    bass = np.sin(2 * np.pi * 55 * np.arange(2 * RATE) / RATE)[:, None]
    assert heard(tmp_path / "a.wav", 0.9 * bass).clipped <= 2


def test_a_louder_part_takes_back_what_was_flat_below_it(tmp_path: Path) -> None:
    flat = 0.3 * np.sign(np.sin(2 * np.pi * 100 * np.arange(20 * RATE) / RATE))[:, None]
    assert heard(tmp_path / "a.wav", np.concatenate([flat, music(1, channels=1)])).clipped == 0


@pytest.mark.parametrize(("gain", "silent"), [(0.0, True), (10 ** (-96 / 20), True), (10 ** (-80 / 20), False)])
def test_silence_is_what_preprocessing_refuses_as_silence(tmp_path: Path, gain: float, silent: bool) -> None:
    found = heard(tmp_path / "a.wav", gain * music(1), subtype="FLOAT")
    refused = False
    try:
        decode(tmp_path / "a.wav")
    except AudioError:
        refused = True
    assert (found.silent, refused) == (silent, silent)


def test_quiet_time_is_measured(tmp_path: Path) -> None:
    wave = np.concatenate([music(1), 1e-4 * music(3)])
    assert heard(tmp_path / "a.wav", wave).quiet == pytest.approx(0.75, abs=0.03)


def test_only_what_is_used_is_listened_to(tmp_path: Path) -> None:
    wave = np.concatenate([music(2), np.clip(9 * music(2), -1, 1)])
    found = heard(tmp_path / "a.wav", wave, seconds=2.0)
    assert (found.seconds, found.clipped) == (2.0, 0)
    assert found.content != heard(tmp_path / "b.wav", wave).content


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_number_of_channels_is_heard(tmp_path: Path, channels: int) -> None:
    found = heard(tmp_path / "a.wav", music(2, channels=channels))
    assert len(found.fingerprint) > CODES_A_SECOND
    assert found.seconds == pytest.approx(2, abs=1e-4)


def test_a_file_of_half_a_second_has_no_fingerprint(tmp_path: Path) -> None:
    assert len(heard(tmp_path / "a.wav", music(0.4)).fingerprint) == 0


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty file"), (b"nothing" * 100, "not audio"), (None, "too short")]
)
def test_what_preprocessing_refuses_is_refused_for_the_same_reason(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, music(0.01), RATE)
    path.write_bytes(path.read_bytes() if content is None else content)
    with pytest.raises(AudioError, match=reason) as raised:
        listen(Listening(path, 0.0))
    with pytest.raises(AudioError) as refused:
        decode(path)
    assert str(raised.value) == str(refused.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, music(2), RATE)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(AudioError, match=r"truncated: 0\.3 of 2\.0 s"):
        listen(Listening(path, 0.0))


def test_a_sample_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    wave = music(1)
    wave[RATE // 2] = math.nan
    with pytest.raises(AudioError, match=r"NaN or infinite samples, first at 0\.50 s"):
        heard(tmp_path / "a.wav", wave, subtype="FLOAT")
