"""A song as it is sent to a service: MP3 as it is, anything else as mono MP3, within the service's limit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import attrs
import soundfile
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.decode import decode, probe
from sidestep_core.audio.source import Samples
from sidestep_core.errors import AudioError, Cancelled, ProviderError

# what services see instead of the file's own name, which headers may not be able to hold
NAME, MIME = "song.mp3", "audio/mpeg"
BIT_RATES = (256, 128, 64)  # kbit/s, the first that fits
_HIGHEST, _LOWEST = 320, 32  # what libsndfile's compression levels 0 and 1 stand for
_BLOCK = 1 << 18


@attrs.frozen(kw_only=True)
class Recording:
    """A song's audio as it is sent.

    Attributes:
        data: an MP3 file.
        doubts: what was reduced to fit, in lines for a person.
    """

    data: bytes = attrs.field(repr=False)
    doubts: tuple[str, ...] = ()


def load_recording(path: Path, *, limit: int, cancelled: Callable[[], bool]) -> Recording:
    """Return a song as MP3 of at most `limit` bytes.

    Raises:
        ProviderError: the file cannot be read or holds no sound ("no audio"), or is longer than fits ("too large").
        Cancelled: the user asked to stop.
    """
    try:
        if _is_mp3(path) and path.stat().st_size <= limit:
            return Recording(data=path.read_bytes())
        _bit_rate(path.name, probe(path).seconds, limit)  # what is too long is not decoded
        audio = decode(path)
    except (AudioError, OSError) as error:
        raise ProviderError(f"'{path.name}': {error}", kind="no audio") from error
    return encode_recording(path.name, audio, limit=limit, cancelled=cancelled)


def encode_recording(name: str, audio: Samples, *, limit: int, cancelled: Callable[[], bool]) -> Recording:
    """Return audio [2, n] at 48 kHz as MP3 of at most `limit` bytes.

    Raises:
        ProviderError: it is longer than fits ("too large").
        Cancelled: the user asked to stop.
    """
    rate = _bit_rate(name, audio.shape[1] / SAMPLE_RATE, limit)
    doubts = () if rate == BIT_RATES[0] else (f"sent with {rate} kbit/s to keep within {limit >> 20} MB",)
    return Recording(data=_encode(audio, rate, cancelled), doubts=doubts)


def _bit_rate(name: str, seconds: float, limit: int) -> int:
    for rate in BIT_RATES:
        if _size(seconds, rate) <= limit:
            return rate
    raise ProviderError(
        f"'{name}' is too long to be sent: {seconds / 60:.0f} minutes, and {limit >> 20} MB are allowed",
        kind="too large",
    )


def _size(seconds: float, rate: int) -> float:
    return (seconds + 1) * rate * 125


def _is_mp3(path: Path) -> bool:
    """Tell whether a file is MP3 by what it holds; one that cannot be opened is for `probe` to explain."""
    try:
        return bool(soundfile.info(path).format == "MP3")
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw
        return False


def _encode(audio: Samples, rate: int, cancelled: Callable[[], bool]) -> bytes:
    """Return stereo samples [2, n] as mono MP3 with a constant bit rate in kbit/s."""
    made = io.BytesIO()
    with soundfile.SoundFile(
        made,
        "w",
        samplerate=SAMPLE_RATE,
        channels=1,
        format="MP3",
        bitrate_mode="CONSTANT",
        compression_level=(_HIGHEST - rate) / (_HIGHEST - _LOWEST),
    ) as file:
        for start in range(0, audio.shape[1], _BLOCK):
            if cancelled():
                raise Cancelled("stopped before the song was sent")
            file.write(audio[:, start : start + _BLOCK].mean(axis=0))
    return made.getvalue()
