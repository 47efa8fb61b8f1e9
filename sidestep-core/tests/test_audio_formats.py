"""Every format, rate and channel count becomes 48 kHz stereo; the content of a file decides, not its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sidestep_core.audio.decode import decode, probe
from sidestep_core.audio.ffmpeg import find_ffmpeg
from sidestep_core.errors import AudioError

Convert = Callable[..., Path]
SECONDS = 2.0
NATIVE = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mp3": "MP3"}


def tones(rate: int, seconds: float = SECONDS) -> NDArray[np.float64]:
    """440 Hz on the left, 660 Hz on the right, a step up in level half way: [samples, 2]."""
    time = np.arange(round(rate * seconds)) / rate
    level = np.where(time < seconds / 2, 0.3, 0.6)
    return np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 660 * time)], axis=1) * level[:, None]


def loudest_frequency(channel: NDArray[np.float32]) -> float:
    return float(np.abs(np.fft.rfft(channel)).argmax() * 48_000 / len(channel))


def assert_is_tones(audio: NDArray[np.float32], *, seconds: float = SECONDS, slack: float = 0.06) -> None:
    assert audio.dtype == np.float32
    assert audio.flags.c_contiguous
    assert audio.shape[0] == 2
    assert audio.shape[1] == pytest.approx(seconds * 48_000, abs=slack * 48_000)
    assert loudest_frequency(audio[0]) == pytest.approx(440, abs=1)
    assert loudest_frequency(audio[1]) == pytest.approx(660, abs=1)
    third = audio.shape[1] // 3
    assert np.abs(audio[:, :third]).mean() * np.pi / 2 == pytest.approx(0.3, abs=0.02)
    assert np.abs(audio[:, -third:]).mean() * np.pi / 2 == pytest.approx(0.6, abs=0.04)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "tones.wav"
    soundfile.write(path, tones(44_100), 44_100)
    return path


@pytest.fixture
def convert(wav: Path, tmp_path: Path) -> Convert:
    """Return a function that makes a file of the tones with ffmpeg; skips the test where there is no ffmpeg."""
    program = find_ffmpeg()
    if program is None:
        pytest.skip("no ffmpeg on the PATH and no imageio-ffmpeg")

    def run(name: str, *arguments: str) -> Path:
        out = tmp_path / name
        subprocess.run([program, "-v", "error", "-i", wav, *arguments, out], check=True)
        return out

    return run


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


@pytest.mark.parametrize("suffix", NATIVE)
def test_formats_of_libsndfile_need_no_ffmpeg(tmp_path: Path, suffix: str, without_ffmpeg: None) -> None:
    path = tmp_path / f"song.{suffix}"
    soundfile.write(path, tones(44_100), 44_100, format=NATIVE[suffix])
    assert_is_tones(decode(path))


def test_opus_needs_no_ffmpeg(tmp_path: Path, without_ffmpeg: None) -> None:
    path = tmp_path / "song.opus"
    soundfile.write(path, tones(48_000), 48_000, format="OGG", subtype="OPUS")
    assert_is_tones(decode(path), slack=0.4)  # libsndfile drops the last page it has not filled when it writes


@pytest.mark.parametrize("name", ["song.m4a", "song.aac"])
def test_aac_is_read_by_ffmpeg(convert: Convert, name: str) -> None:
    assert_is_tones(decode(convert(name)))


def test_aac_without_ffmpeg_says_what_to_install(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = convert("song.m4a")
    request.getfixturevalue("without_ffmpeg")
    with pytest.raises(AudioError, match=r"needs ffmpeg, .* pip install 'sidestep-core\[ffmpeg\]'"):
        decode(path)


@pytest.mark.parametrize(
    ("name", "arguments", "lie"),
    [
        ("song.mp3", (), "mp3.wav"),
        ("song.m4a", (), "m4a.mp3"),
        ("song.flac", (), "flac.ogg"),
        ("song.aac", (), "aac.flac"),
        ("song.flac", (), "flac.raw"),
        ("song.ogg", ("-c:a", "flac"), "flac-in-ogg.wav"),
    ],
)
def test_the_content_decides_not_the_name(convert: Convert, name: str, arguments: tuple[str, ...], lie: str) -> None:
    path = convert(name, *arguments)
    assert_is_tones(decode(path.rename(path.with_name(lie))))


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000])
def test_every_rate_becomes_48_khz(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, tones(rate), rate)
    audio = decode(path)
    assert audio.shape == (2, 96_000)
    assert_is_tones(audio)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_type_has_the_same_full_scale(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, tones(48_000), 48_000, subtype=subtype)
    np.testing.assert_allclose(decode(path).T, tones(48_000), atol=1 / 120)


def test_audio_at_48_khz_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    original = tones(48_000).astype(np.float32)
    soundfile.write(path, original, 48_000, subtype="FLOAT")
    np.testing.assert_array_equal(decode(path).T, original)


def test_resampling_keeps_what_is_below_the_nyquist_frequency(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, tones(44_100), 44_100, subtype="FLOAT")
    expected = tones(48_000)
    steady = slice(4_800, 43_200)  # away from the ends and from the step in level
    np.testing.assert_allclose(decode(path).T[steady], expected[steady], atol=2e-5)


def test_mono_goes_to_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    mono = tones(48_000)[:, 0].astype(np.float32)
    soundfile.write(path, mono, 48_000, subtype="FLOAT")
    np.testing.assert_array_equal(decode(path), np.stack([mono, mono]))


def test_an_mp3_of_varying_bit_rate_without_a_length_is_read_to_its_end(convert: Convert) -> None:
    path = convert("song.mp3", "-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0", "-id3v2_version", "0")
    assert soundfile.info(path).duration < SECONDS - 0.2  # what libsndfile would make of it
    assert_is_tones(decode(path))


def test_an_id3_tag_before_such_an_mp3_changes_nothing(convert: Convert) -> None:
    path = convert("song.mp3", "-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0", "-metadata", "title=" + "x" * 900)
    assert path.read_bytes()[:3] == b"ID3"
    assert_is_tones(decode(path))


def test_a_flac_from_a_pipe_has_no_length_and_is_read_to_its_end(convert: Convert, tmp_path: Path) -> None:
    program = find_ffmpeg()
    assert program is not None
    source = convert("source.flac")
    piped = subprocess.run([program, "-v", "error", "-i", source, "-f", "flac", "-"], check=True, capture_output=True)
    path = tmp_path / "piped.flac"
    path.write_bytes(piped.stdout)
    assert_is_tones(decode(path))
    assert probe(path).seconds == pytest.approx(SECONDS)


def test_a_wav_from_a_pipe_has_no_length_and_is_read_to_its_end(wav: Path, tmp_path: Path) -> None:
    content = bytearray(wav.read_bytes())
    where = content.index(b"data") + 4
    content[where : where + 4] = b"\xff\xff\xff\xff"
    path = tmp_path / "piped.wav"
    path.write_bytes(content)
    assert_is_tones(decode(path))
    assert probe(path).seconds == pytest.approx(SECONDS)


def test_the_sound_of_a_video_is_used(convert: Convert) -> None:
    path = convert("song.mp4", "-f", "lavfi", "-i", "color=size=64x64:rate=5:duration=2", "-c:v", "mpeg4")
    assert_is_tones(decode(path))


@pytest.mark.parametrize("suffix", NATIVE)
def test_probe_tells_length_and_shape(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song.{suffix}"
    soundfile.write(path, tones(44_100)[:, 0], 44_100, format=NATIVE[suffix])
    info = probe(path)
    assert (info.sample_rate, info.channels) == (44_100, 1)
    assert info.seconds == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize("name", ["song.m4a", "song.aac"])
def test_probe_asks_ffmpeg_where_libsndfile_does_not_know(convert: Convert, name: str) -> None:
    info = probe(convert(name))
    assert (info.sample_rate, info.channels) == (44_100, 2)
    assert info.seconds == pytest.approx(SECONDS, abs=0.06)


def test_a_title_is_not_taken_for_a_length(convert: Convert) -> None:
    path = convert(
        "song.m4a",
        "-metadata",
        "title=  Duration: 00:10:00.00, start",
        "-metadata",
        "comment=a\n  Duration: 01:00:00.00",
    )
    assert probe(path).seconds == pytest.approx(SECONDS, abs=0.06)
    assert_is_tones(decode(path))


def test_decoding_imports_no_torch() -> None:
    # it runs in processes of its own, one for each core
    code = "import sys, sidestep_core.audio.decode, sidestep_core.audio.loudness; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_an_ffmpeg_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / ("ffmpeg.exe" if os.name == "nt" else "ffmpeg")
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == shutil.which("ffmpeg") == str(own)


@pytest.mark.skipif(os.name == "nt", reason="the program is wrapped in a shell script")
def test_ffmpeg_does_not_outlive_a_decode_that_stops_early(
    convert: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = convert("long.m4a", "-af", "aloop=30:88200")
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "ffmpeg"
    wrapper.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid\nexec "{find_ffmpeg()}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert decode(path, max_seconds=0.5).shape == (2, 24_000)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    """A web server on this machine: its port and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port, asked
        listening.shutdown()
        thread.join()


def test_a_playlist_that_passes_for_audio_reaches_no_network(
    convert: Convert, tmp_path: Path, server: tuple[int, list[str]]
) -> None:
    port, asked = server
    path = tmp_path / "song.m4a"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:{port}/a.aac\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError, match="not audio"):
        decode(path)
    assert asked == []
