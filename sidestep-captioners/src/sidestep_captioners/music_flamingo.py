"""Music Flamingo on a server: a local one, a Gradio space, or a Hugging Face endpoint; which it is, is asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, Self
from urllib.parse import urlsplit

from sidestep_core.describing.plan import ALONG
from sidestep_core.describing.prompt import caption_prompt
from sidestep_core.errors import ProviderError
from sidestep_core.interfaces import Description, Track
from sidestep_core.specs import BuildContext

from sidestep_captioners.configs import MusicFlamingoConfig
from sidestep_captioners.failures import need_key
from sidestep_captioners.gradio import find_gradio
from sidestep_captioners.http import Http, host_of, may_have_token, need_url
from sidestep_captioners.multipart import find_multipart
from sidestep_captioners.transcriber import check_server
from sidestep_captioners.transcripts import LYRICS, read_description, read_transcript
from sidestep_captioners.upload import Recording, load_recording

_HOW = "give --music-flamingo-url, or keep it with 'sidestep settings set music_flamingo.url ADDRESS'"
_LARGEST = 128 << 20
_SPACE = re.compile(r"/spaces/([\w.-]+)/([\w.-]+)")


class Transport(Protocol):
    """A way to put a question to a server."""

    def ask(self, recording: Recording, prompt: str, mode: str, cancelled: Callable[[], bool]) -> object:
        """Return the answer, JSON or text; `mode` is "metadata" or "lyrics"."""


class MusicFlamingoProvider:
    """Asks a Music Flamingo server."""

    def __init__(self, config: MusicFlamingoConfig, context: BuildContext) -> None:
        self._config, self._url = config, ""
        self._headers: dict[str, str] = {}
        self._http: Http | None = None
        self._transport: Transport | None = None
        self._finding = threading.Lock()

    def __enter__(self) -> Self:
        self._http = self._open()
        return self

    def __exit__(self, *error: object) -> None:
        if self._http is not None:
            self._http.close()

    def check(self) -> str:
        """Look whether a server answers at the address."""
        http = self._open()
        try:
            return check_server(http, self._url, self._headers)
        finally:
            http.close()

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Ask about one song: once for what describes it, once for its lyrics."""
        assert self._http is not None, "the provider is not entered"
        recording = load_recording(track.path, limit=_LARGEST, cancelled=cancelled)
        transport = self._find(self._http, cancelled)
        fields: dict[str, str] = {}
        sung = wanted & LYRICS if "lyrics" in wanted else frozenset[str]()
        described = wanted - sung
        if not sung or described - ALONG:  # what comes along is no question of its own
            prompt = caption_prompt(track, described, hears=True)
            fields |= read_description(transport.ask(recording, prompt, "metadata", cancelled), described)
        doubts = list(recording.doubts)
        if sung:
            prompt = caption_prompt(track, sung, hears=True)
            answer = transport.ask(recording, prompt, "lyrics", cancelled)
            try:
                found = read_transcript(answer)
            except ProviderError as error:
                if not fields:
                    raise
                doubts.append(f"no lyrics: {error}")  # what describes the song was answered all the same
                found = {}
            fields |= {field: text for field, text in found.items() if field in sung}
        return Description(fields=fields, doubts=tuple(doubts), source=host_of(self._url))

    def _open(self) -> Http:
        self._url = space_address(need_url(self._config.url, _HOW))
        token = need_key(self._config.token, "give --hf-token") if self._config.token else ""
        trusted = bool(token) and (self._config.send_token or may_have_token(self._url))
        self._headers = {"Authorization": f"Bearer {token}"} if trusted else {}
        return Http(timeout=self._config.timeout, secret=token)

    def _find(self, http: Http, cancelled: Callable[[], bool]) -> Transport:
        """Find out how the server is asked, once for all songs."""
        with self._finding:
            if self._transport is None:
                headers: Mapping[str, str] = self._headers
                app = find_gradio(http, self._url, headers, cancelled)
                self._transport = app or find_multipart(http, self._url, headers, cancelled)
            return self._transport


def space_address(url: str) -> str:
    """Return the address that a space answers at, where the address of its page is given."""
    parts = urlsplit(url)
    match = _SPACE.match(parts.path)
    if parts.hostname != "huggingface.co" or match is None:
        return url
    name = re.sub(r"[^a-z0-9]+", "-", f"{match[1]}-{match[2]}".lower()).strip("-")
    return f"https://{name}.hf.space"
