"""A file that cannot be used is refused with a short reason, and one that can be used is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sidestep_core.audio.decode import decode, probe
from sidestep_core.audio.ffmpeg import find_ffmpeg
from sidestep_core.errors import AudioError

RATE = 44_100


def noise(samples: int, level: float = 0.1) -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((samples, 2)).clip(-4, 4) * level


def write(path: Path, audio: NDArray[np.float64], rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, audio, rate, subtype=subtype)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def reason(path: Path, max_seconds: float = 0.0) -> str:
    with pytest.raises(AudioError) as caught:
        decode(path, max_seconds=max_seconds)
    return str(caught.value)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.touch()
    assert reason(path) == "empty file"


@pytest.mark.parametrize(
    "content", [b"these are words " * 500, bytes(50_000), bytes(range(256)) * 100, b"RIFF", b"\xff"]
)
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a"])
def test_what_is_not_audio(tmp_path: Path, content: bytes, suffix: str) -> None:
    if find_ffmpeg() is None:
        pytest.skip("no ffmpeg to ask")
    path = tmp_path / f"song{suffix}"
    path.write_bytes(content)
    assert reason(path) == "not audio: neither soundfile nor ffmpeg can read it"


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = cut(write(tmp_path / f"song{suffix}", noise(4 * RATE)), 0.5)
    assert reason(path).startswith("truncated: ")
    assert reason(path).endswith(" of 4.0 s can be decoded")


def test_the_part_before_the_cut_is_enough_if_no_more_is_wanted(tmp_path: Path) -> None:
    path = cut(write(tmp_path / "song.wav", noise(4 * RATE)), 0.5)
    assert decode(path, max_seconds=1.5).shape == (2, 72_000)
    assert reason(path, max_seconds=2.5) == "truncated: 2.0 of 2.5 s can be decoded"


def test_a_file_that_lacks_a_last_moment_is_used(tmp_path: Path) -> None:
    path = cut(write(tmp_path / "song.wav", noise(4 * RATE)), 0.99)
    assert decode(path).shape[1] == pytest.approx(0.99 * 4 * 48_000, rel=1e-3)


def test_an_ogg_ends_where_its_last_whole_page_ends(tmp_path: Path) -> None:
    # it has no length in front: what is there is all that can be known
    path = cut(write(tmp_path / "song.ogg", noise(4 * RATE)), 0.5)
    assert decode(path).shape[1] == pytest.approx(probe(path).seconds * 48_000, abs=1)
    assert 0.5 < probe(path).seconds < 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), "holds its index, is missing"), (("-movflags", "+faststart"), "of 3.0 s can be decoded")],
)
def test_a_truncated_m4a(tmp_path: Path, options: tuple[str, ...], expected: str) -> None:
    program = find_ffmpeg()
    if program is None:
        pytest.skip("no ffmpeg to make the file")
    source, path = write(tmp_path / "source.wav", noise(3 * RATE)), tmp_path / "song.m4a"
    subprocess.run([program, "-v", "error", "-i", source, *options, path], check=True)
    assert reason(cut(path, 0.5)).startswith("truncated: ")
    assert expected in reason(path)


def test_a_header_that_promises_the_impossible_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "song.flac", noise(RATE))
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the upper four of the 36 bits that count the samples
    content[22:26] = b"\xff\xff\xff\x00"
    path.write_bytes(content)
    assert reason(path).startswith("truncated: ")
    assert probe(path).seconds > 1e6


def test_a_damaged_middle_is_a_truncation(tmp_path: Path) -> None:
    path = write(tmp_path / "song.flac", noise(10 * RATE))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:] = bytes(len(content) - middle)
    path.write_bytes(content)
    assert reason(path).startswith("truncated: ")


@pytest.mark.parametrize("suffix", [".wav", ".aiff"])
@pytest.mark.parametrize("samples", [0, 1, 1_919])
def test_less_than_a_latent_frame(tmp_path: Path, suffix: str, samples: int) -> None:
    path = write(tmp_path / f"song{suffix}", noise(samples), rate=48_000)
    assert reason(path) == f"too short: {samples} samples at 48 kHz, and a latent frame takes 1920"


def test_a_latent_frame_is_enough(tmp_path: Path) -> None:
    assert decode(write(tmp_path / "song.wav", noise(1_920), rate=48_000)).shape == (2, 1_920)


def test_the_frame_is_counted_at_48_khz(tmp_path: Path) -> None:
    assert decode(write(tmp_path / "song.wav", noise(320), rate=8_000)).shape == (2, 1_920)
    assert reason(write(tmp_path / "song.wav", noise(1_920), rate=96_000)).startswith("too short: 960 samples")


@pytest.mark.parametrize("level", [0.0, 7e-6])
def test_silence(tmp_path: Path, level: float) -> None:
    path = write(tmp_path / "song.wav", noise(RATE, level).clip(-3e-5, 3e-5), subtype="FLOAT")
    assert reason(path) == "silent: its peak is below -90 dBFS"


def test_a_quiet_song_is_not_silent(tmp_path: Path) -> None:
    assert decode(write(tmp_path / "song.wav", noise(RATE, 1e-4), subtype="FLOAT")).max() < 5e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_samples_that_are_not_numbers(tmp_path: Path, value: float, rate: int) -> None:
    audio = noise(4 * rate)
    audio[3 * rate, 1] = value
    path = write(tmp_path / "song.wav", audio, rate, subtype="FLOAT")
    assert reason(path) == "NaN or infinite samples, first at 3.00 s"


def test_samples_beyond_what_is_wanted_do_not_matter(tmp_path: Path) -> None:
    audio = noise(4 * RATE)
    audio[3 * RATE :] = np.nan
    path = write(tmp_path / "song.wav", audio, subtype="FLOAT")
    assert decode(path, max_seconds=2).shape == (2, 96_000)


def test_a_missing_file(tmp_path: Path) -> None:
    assert reason(tmp_path / "song.wav") == "cannot be read: no such file or directory"


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.symlink_to(tmp_path / "gone.wav")
    assert reason(path) == "cannot be read: no such file or directory"


def test_a_folder_named_like_a_song(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.mkdir()
    assert reason(path) == "cannot be read: not a regular file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    os.mkfifo(path)
    assert reason(path) == "cannot be read: not a regular file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "song.wav", noise(RATE))
    path.chmod(0)
    assert reason(path) == "cannot be read: permission denied"


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_probe_refuses_for_the_same_reasons(tmp_path: Path, make: object) -> None:
    path = tmp_path / "song.wav"
    make(path)  # type: ignore[operator]
    with pytest.raises(AudioError) as caught:
        probe(path)
    assert str(caught.value) == reason(path)
