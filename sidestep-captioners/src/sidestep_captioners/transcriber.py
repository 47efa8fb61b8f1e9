"""A server that writes down what is sung: one multipart question a song."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self
from urllib.parse import urlsplit

from sidestep_core.errors import ProviderError
from sidestep_core.interfaces import Description, Track
from sidestep_core.specs import BuildContext

from sidestep_captioners.configs import TranscriberConfig
from sidestep_captioners.http import Http, Reply, host_of, need_url, never
from sidestep_captioners.stems.configs import DemucsConfig
from sidestep_captioners.stems.voice import Voice
from sidestep_captioners.transcripts import read_transcript
from sidestep_captioners.upload import MIME, NAME, Recording, encode_recording, load_recording

_HOW = "give --transcriber-server-url, or keep it with 'sidestep settings set transcriber_server.url ADDRESS'"
_PATHS = ("transcribe", "lyrics", "predict", "infer")
_LARGEST = 512 << 20


class TranscriberProvider:
    """Asks a transcription server."""

    def __init__(self, config: TranscriberConfig, context: BuildContext) -> None:
        self._config = config
        self._http: Http | None = None
        self._url = ""
        self._voice = Voice(DemucsConfig()) if config.vocals_only else None

    def __enter__(self) -> Self:
        self._url = need_url(self._config.url, _HOW)
        if self._voice is not None:
            self._voice.open()
        self._http = Http(timeout=self._config.timeout)
        return self

    def __exit__(self, *error: object) -> None:
        if self._http is not None:
            self._http.close()
        if self._voice is not None:
            self._voice.close()

    def check(self) -> str:
        """Look whether a server answers at the address."""
        url = need_url(self._config.url, _HOW)
        http = Http(timeout=self._config.timeout)
        try:
            return check_server(http, url)
        finally:
            http.close()

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Have one song written down."""
        assert self._http is not None, "the provider is not entered"
        recording = self._record(track, cancelled)
        reply = self._http.ask(
            "POST",
            with_path(self._url, _PATHS),
            cancelled=cancelled,
            data={"mode": "lyrics", "title": track.title, "artist": track.artist},
            files={"file": (NAME, recording.data, MIME)},
        )
        found = read_transcript(payload_of(reply))
        fields = {field: text for field, text in found.items() if field in wanted}
        return Description(fields=fields, doubts=recording.doubts, source=reply.host)

    def _record(self, track: Track, cancelled: Callable[[], bool]) -> Recording:
        if self._voice is None:
            return load_recording(track.path, limit=_LARGEST, cancelled=cancelled)
        voice = self._voice.hear(track.path, cancelled)
        return encode_recording(track.path.name, voice, limit=_LARGEST, cancelled=cancelled)


def check_server(http: Http, url: str, headers: Mapping[str, str] | None = None) -> str:
    """Say that a server answers; which page it has at the address does not matter."""
    reply = http.send("GET", url, cancelled=never, headers=headers)
    if reply.status in (401, 403) or reply.status >= 500:
        http.check(reply)
    return f"{host_of(url)} answers"


def with_path(url: str, known: tuple[str, ...]) -> str:
    """Return an address whose path ends in a known word, the first of them where it did not."""
    return url if urlsplit(url).path.rpartition("/")[2] in known else f"{url}/{known[0]}"


def payload_of(reply: Reply) -> object:
    """Return an answer's JSON, or its text where it is none and does not claim to be."""
    try:
        return reply.json()
    except ProviderError:
        if "json" in reply.headers.get("content-type", "") or "html" in reply.headers.get("content-type", ""):
            raise
        return reply.text
