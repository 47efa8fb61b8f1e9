"""Reading audio with libsndfile, and knowing when it must not be trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from sidestep_core.audio.source import BLOCK, Samples, Source, UnsupportedFile

_STREAMED = 0x7FFF_F000  # programs that write to a pipe put this or more where a WAV's length belongs
_UNKNOWN = 1 << 62  # libsndfile's length of a FLAC that does not tell its own


@contextmanager
def open_native(path: Path) -> Iterator[Source]:
    """Open a file with libsndfile.

    Raises:
        UnsupportedFile: libsndfile does not know the format, or would guess the length.
    """
    if _is_mp3_without_length(path):
        raise UnsupportedFile("mp3 without a length header")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a name that ends in .raw
        raise UnsupportedFile(str(error)) from error
    with file:
        if file.frames >= _UNKNOWN:
            raise UnsupportedFile("no length in the header")
        yield Source(
            rate=file.samplerate,
            channels=file.channels,
            frames=_promised_frames(file),
            vorbis_order=file.format == "OGG",
            blocks=_read_blocks(file),
        )


def _is_mp3_without_length(path: Path) -> bool:
    """Tell whether libsndfile would estimate the length from the first frame's bit rate, and cut the song there."""
    with path.open("rb") as file:
        head = file.read(10)
        file.seek(0)
        if head[:3] == b"ID3" and len(head) == 10:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        start = file.read(512).lstrip(b"\0")
    is_mp3 = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE6 == 0xE2  # frame sync, layer III
    return is_mp3 and not any(mark in start for mark in (b"Xing", b"Info", b"VBRI"))


def _promised_frames(file: soundfile.SoundFile) -> int | None:
    """Return the length in a WAV's header even where libsndfile has corrected it to the size of the file."""
    corrected = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if corrected is None:
        return int(file.frames)
    claimed, actual = (int(size) for size in corrected.groups())
    return None if claimed >= _STREAMED else int(file.frames) * claimed // max(actual, 1)


def _read_blocks(file: soundfile.SoundFile) -> Iterator[Samples]:
    while True:
        try:
            block: Samples = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            return  # damaged from here on: what was read is less than what the header promised
        if not len(block):
            return
        yield block
