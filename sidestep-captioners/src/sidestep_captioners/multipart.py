"""A server that takes a song and a question as a form and answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import attrs

from sidestep_captioners.http import Http
from sidestep_captioners.transcriber import payload_of
from sidestep_captioners.upload import MIME, NAME, Recording

# in the order in which they are tried where a server does not say what it has
_PATHS = ("infer", "caption", "predict", "analyze")
_KNOWN = (*_PATHS, "metadata", "metas")
_NOT_THERE = (404, 405)


@attrs.define
class MultipartServer:
    """A server that takes forms.

    Attributes:
        http: connections.
        urls: addresses to ask at; the first that is there is kept.
        headers: sent along.
    """

    http: Http
    urls: tuple[str, ...]
    headers: Mapping[str, str] = attrs.field(repr=False)

    def ask(self, recording: Recording, prompt: str, mode: str, cancelled: Callable[[], bool]) -> object:
        """Return the server's answer, JSON or text."""
        urls = self.urls
        for url in urls:
            reply = self.http.send(
                "POST",
                url,
                cancelled=cancelled,
                headers=self.headers,
                data={"prompt": prompt, "mode": mode, "return_json": "false" if mode == "lyrics" else "true"},
                files={"file": (NAME, recording.data, MIME)},
            )
            if reply.status not in _NOT_THERE or url == urls[-1]:
                break
        self.http.check(reply)
        self.urls = (url,)
        return payload_of(reply)


def find_multipart(http: Http, url: str, headers: Mapping[str, str], cancelled: Callable[[], bool]) -> MultipartServer:
    """Return how to ask a server: at the address itself, where it says, or where such servers usually listen."""
    if urlsplit(url).path.rpartition("/")[2] in _KNOWN:
        return MultipartServer(http, (url,), headers)
    reply = http.send("GET", f"{url}/openapi.json", cancelled=cancelled, headers=headers)
    said = _posts(reply.text) if reply.status == 200 else ()
    paths = [path for name in _KNOWN for path in said if path.rstrip("/").endswith(f"/{name}")]
    return MultipartServer(http, tuple(url + path for path in paths or [f"/{name}" for name in _PATHS]), headers)


def _posts(text: str) -> Sequence[str]:
    """Return the paths of an OpenAPI description that take something."""
    try:
        paths = json.loads(text)["paths"]
        return [path for path, methods in paths.items() if "post" in methods]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
