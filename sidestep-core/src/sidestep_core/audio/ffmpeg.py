"""Reading audio with an ffmpeg process: what libsndfile has no decoder for."""

from __future__ import annotations

import importlib
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from sidestep_core.audio.source import BLOCK, Samples, Source
from sidestep_core.errors import AudioError

_AU_HEADER = struct.Struct(">4s5I")  # magic, offset of the samples, size, encoding, rate, channels
_DURATION = re.compile(r"^  Duration: (\d+):(\d+):(\d+\.\d+)", re.MULTILINE)  # titles are indented further


def find_ffmpeg() -> str | None:
    """Return the ffmpeg on the PATH, else the one that the imageio-ffmpeg package carries, else None."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ModuleNotFoundError, RuntimeError):  # not installed, or installed without a program for this machine
        return None


@contextmanager
def open_ffmpeg(path: Path) -> Iterator[Source]:
    """Open the first audio stream of a file with ffmpeg; the process ends with the context.

    Raises:
        AudioError: there is no ffmpeg, or it finds no audio in the file.
    """
    program = find_ffmpeg()
    if program is None:
        raise AudioError("needs ffmpeg, and there is none: install ffmpeg, or pip install 'sidestep-core[ffmpeg]'")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                _command(program, path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        with process:
            try:
                assert process.stdout is not None
                source = _read_header(process.stdout, log)
                if source is None:
                    raise AudioError(_explain(path, log))
                yield source
            finally:
                process.kill()


def _command(program: str, path: Path) -> list[str]:
    # AU: the simplest format that can be written to a pipe and still tells rate and channels.
    # The whitelist keeps playlists that pass for audio from reaching for the network.
    return [
        *(program, "-nostdin", "-hide_banner", "-nostats", "-protocol_whitelist", "file,pipe"),
        *("-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"),
    ]


def _read_header(stream: IO[bytes], log: Path) -> Source | None:
    header = stream.read(_AU_HEADER.size)
    if len(header) < _AU_HEADER.size:
        return None
    _, offset, _, _, rate, channels = _AU_HEADER.unpack(header)
    stream.read(offset - _AU_HEADER.size)
    return Source(
        rate=rate,
        channels=channels,
        frames=_promised_frames(log, rate),
        vorbis_order=False,
        blocks=_read_blocks(stream, channels),
    )


def _explain(path: Path, log: Path) -> str:
    with path.open("rb") as file:
        is_mp4 = file.read(8)[4:] == b"ftyp"
    if is_mp4 and "moov atom not found" in _messages(log):
        return "truncated: the end of the file, which holds its index, is missing"
    return "not audio: neither soundfile nor ffmpeg can read it"


def _messages(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _promised_frames(log: Path, rate: int) -> int | None:
    messages = _messages(log)  # ffmpeg has described its input before it writes
    found = _DURATION.search(messages)
    if found is None or "Estimating duration" in messages:
        return None
    hours, minutes, seconds = found.groups()
    return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * rate)


def _read_blocks(stream: IO[bytes], channels: int) -> Iterator[Samples]:
    frame = 4 * channels
    while data := stream.read(BLOCK * frame):
        values = np.frombuffer(data, dtype=">f4", count=len(data) // frame * channels)
        yield values.astype(np.float32).reshape(-1, channels)
