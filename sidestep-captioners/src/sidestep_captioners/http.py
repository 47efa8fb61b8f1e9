"""HTTP as the providers of this package speak it: one pool of connections, limits, and typed failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx2
from sidestep_core.errors import Cancelled, ProviderError

from sidestep_captioners.failures import failed, typed_failures

AGENT = "sidestep"
_LARGEST = 32 << 20  # bytes; no description of a song comes near
_CONNECT = 20.0  # seconds
_HUGGING_FACE = ("hf.space", "huggingface.co", "endpoints.huggingface.cloud")


@attrs.frozen(kw_only=True)
class Reply:
    """What a server answered: who it was, its status, headers and text."""

    host: str
    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """Return the answer's JSON; raise `ProviderError` where it is none ("bad answer")."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise ProviderError(f"{self.host} answers with no valid JSON", kind="bad answer") from error


class Http:
    """Connections to servers, for several threads; it sends nothing but what it is given.

    Args:
        timeout: seconds to wait for the next piece of an answer, and for a whole answer once it has begun.
        secret: what no error may show.
    """

    def __init__(self, *, timeout: float, secret: str = "") -> None:
        self._timeout, self._secret = timeout, secret
        self._client = httpx2.Client(timeout=timeouts(timeout), headers={"User-Agent": AGENT})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, method: str, url: str, *, cancelled: Callable[[], bool], follow: bool = False, **sent: Any) -> Reply:
        """Return a server's answer, whatever its status.

        Args:
            method: GET or POST.
            url: the address.
            cancelled: asked while an answer comes in.
            follow: go where the server redirects to.
            sent: headers, params, json, data and files as httpx2 takes them.

        Raises:
            ProviderError: it cannot be reached, or its answer is too slow ("unreachable") or too long ("bad answer").
            Cancelled: the user asked to stop.
        """
        host = host_of(url)
        if cancelled():
            raise Cancelled("stopped before the server was asked")
        with (
            typed_failures(host, secret=self._secret),
            self._client.stream(method, url, follow_redirects=follow, **sent) as response,
        ):
            body = self._read(response, host, cancelled)
            text = body.decode(response.encoding or "utf-8", errors="replace")
            return Reply(host=host, status=response.status_code, headers=dict(response.headers), text=text)

    def ask(self, method: str, url: str, *, cancelled: Callable[[], bool], follow: bool = False, **sent: Any) -> Reply:
        """Return a server's answer as `send` does; raise `ProviderError` where it says that something failed."""
        reply = self.send(method, url, cancelled=cancelled, follow=follow, **sent)
        self.check(reply)
        return reply

    def check(self, reply: Reply) -> None:
        """Raise `ProviderError` for an answer that says that something failed, a redirection among them."""
        if not 200 <= reply.status < 300:
            raise failed(reply.host, reply.status, reply.text, reply.headers, secret=self._secret)

    def _read(self, response: httpx2.Response, host: str, cancelled: Callable[[], bool]) -> bytes:
        # each piece may take as long as the timeout; without this a server that dribbles is waited for without end
        deadline, body = time.monotonic() + self._timeout, bytearray()
        for piece in response.iter_bytes():
            body += piece
            if cancelled():
                raise Cancelled("stopped while an answer came in")
            if len(body) > _LARGEST:
                raise ProviderError(f"{host} answers without end", kind="bad answer")
            if time.monotonic() > deadline:
                raise ProviderError(f"{host} did not finish its answer in time", kind="unreachable")
        return bytes(body)


def timeouts(seconds: float) -> httpx2.Timeout:
    """Return how long is waited for a piece of an answer, and for a server to be there at all."""
    return httpx2.Timeout(seconds, connect=min(seconds, _CONNECT))


def never() -> bool:
    """Tell that nobody asked to stop."""
    return False


def host_of(url: str) -> str:
    """Return the host of an address, with its port where it has one."""
    return urlsplit(url).netloc.rpartition("@")[2]


def need_url(url: str | None, how: str) -> str:
    """Return a server's address without a slash at its end; raise `ProviderError` where there is none ("key")."""
    url = (url or "").strip().rstrip("/")
    if not url:
        raise ProviderError(f"no server: {how}", kind="key")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        usable = False
    if not usable:
        raise ProviderError(f"'{url}' is no address of a server: it reads http://host:port or https://host", kind="key")
    return url


def may_have_token(url: str) -> bool:
    """Tell whether an address is one of Hugging Face's own, which its token may be sent to, and encrypted."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme == "https" and any(host == own or host.endswith(f".{own}") for own in _HUGGING_FACE)
