"""Songs as they are sent."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from fake_services import never
from sidestep_captioners.upload import load_recording
from sidestep_core.errors import Cancelled, ProviderError

LIMIT = 20 << 20


@pytest.fixture
def write(tmp_path):
    """Return a function that writes some seconds of noise at a tenth of full scale."""

    def make(name, seconds=2.0, rate=44100, channels=2, **how):
        path = tmp_path / name
        noise = np.random.default_rng(0).normal(0, 0.1, (int(seconds * rate), channels))
        soundfile.write(path, noise, rate, **how)
        return path

    return make


def read(recording):
    return soundfile.info(io.BytesIO(recording.data))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "Ängström – 日本 🎵.aiff"])
def test_whatever_is_no_mp3_becomes_mono_mp3_of_256_kbit(write, name):
    recording = load_recording(write(name), limit=LIMIT, cancelled=never)
    heard = read(recording)
    assert (heard.format, heard.channels, heard.samplerate) == ("MP3", 1, 48000)
    assert heard.duration == pytest.approx(2.0, abs=0.1)
    assert len(recording.data) * 8 / heard.duration == pytest.approx(256_000, rel=0.05)
    assert recording.doubts == ()


def test_the_sound_survives(tmp_path):
    time = np.arange(48000) / 48000
    tone = 0.4 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, tone], axis=1), 48000)
    heard, _ = soundfile.read(io.BytesIO(load_recording(tmp_path / "a.wav", limit=LIMIT, cancelled=never).data))
    spectrum = np.abs(np.fft.rfft(heard[:48000]))
    assert spectrum.argmax() == 440
    assert np.sqrt((heard[4800:40000] ** 2).mean()) == pytest.approx(0.4 / np.sqrt(2), rel=0.02)


def test_opposite_channels_are_mixed_as_they_are_and_not_repeated(tmp_path):
    left = np.random.default_rng(0).normal(0, 0.1, 48000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros(48000)], axis=1), 48000)
    heard, _ = soundfile.read(io.BytesIO(load_recording(tmp_path / "a.wav", limit=LIMIT, cancelled=never).data))
    assert heard[4800:40000].std() == pytest.approx(0.05, rel=0.1)


def test_an_mp3_passes_as_it_is_whatever_its_name(write):
    path = write("a.wav", format="MP3")
    assert load_recording(path, limit=LIMIT, cancelled=never).data == path.read_bytes()


def test_a_name_that_claims_mp3_is_not_believed(write):
    path = write("a.mp3", format="WAV")
    assert load_recording(path, limit=LIMIT, cancelled=never).data[:4] != b"RIFF"


@pytest.mark.parametrize(("limit", "rate"), [(100_000, 256), (50_000, 128), (25_000, 64)])
def test_a_lower_rate_is_taken_to_fit_and_told(write, limit, rate):
    recording = load_recording(write("a.wav"), limit=limit, cancelled=never)
    assert len(recording.data) <= limit
    assert len(recording.data) * 8 / read(recording).duration == pytest.approx(rate * 1000, rel=0.05)
    assert [f"{rate} kbit/s" in doubt for doubt in recording.doubts] == [True] * (rate != 256)


def test_an_mp3_over_the_limit_is_made_smaller(write):
    path = write("a.mp3", seconds=4.0, bitrate_mode="CONSTANT", compression_level=0.0)
    limit = path.stat().st_size // 2
    assert len(load_recording(path, limit=limit, cancelled=never).data) <= limit


def test_what_fits_at_no_rate_is_too_large(write):
    with pytest.raises(ProviderError, match="too long") as caught:
        load_recording(write("a.wav"), limit=20_000, cancelled=never)
    assert caught.value.kind == "too large"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x00not audio" * 500),
        lambda path: soundfile.write(path, np.zeros(48000), 48000),
        lambda path: path.write_bytes(b"ID3"),
    ],
)
def test_what_cannot_be_heard_is_no_audio(tmp_path, make):
    path = tmp_path / "Ærlig.wav"
    make(path)
    with pytest.raises(ProviderError, match=r"Ærlig\.wav") as caught:
        load_recording(path, limit=LIMIT, cancelled=never)
    assert caught.value.kind == "no audio"


def test_a_truncated_file_is_no_audio(write):
    path = write("a.wav")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ProviderError, match="truncated"):
        load_recording(path, limit=LIMIT, cancelled=never)


def test_nothing_is_left_beside_the_song(write):
    path = write("a.flac")
    load_recording(path, limit=LIMIT, cancelled=never)
    assert [found.name for found in path.parent.iterdir()] == ["a.flac"]


def test_who_stops_is_not_kept_waiting(write):
    with pytest.raises(Cancelled):
        load_recording(write("a.wav"), limit=LIMIT, cancelled=lambda: True)


def test_the_recordings_bytes_are_not_shown(write):
    assert len(repr(load_recording(write("a.wav"), limit=LIMIT, cancelled=never))) < 100
