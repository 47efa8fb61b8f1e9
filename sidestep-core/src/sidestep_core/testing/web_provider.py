"""A small provider that asks a real server on this machine, and that server: for tests and as an example.

This module is a plugin: `Toolkit(plugins={"web": web_provider})`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import attrs

from sidestep_core.describing.answers import answer_schema, read_answer
from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.describing.normalise import FIELDS
from sidestep_core.describing.prompt import caption_prompt
from sidestep_core.errors import ProviderError, ProviderFailure
from sidestep_core.hookspecs import hookimpl
from sidestep_core.interfaces import Description, Track
from sidestep_core.options import config, option
from sidestep_core.specs import BuildContext, ProviderType

sidestep_api = 1
_FAILURES: dict[int, ProviderFailure] = {
    401: "key",
    402: "quota",
    404: "not found",
    413: "too large",
    422: "refused",
    429: "rate",
}


@config
class WebConfig(GenerationConfig):
    """Settings of the provider that asks a server on this machine."""

    url: str = option(default="http://127.0.0.1:9", flag="--web-url", help="Address of the server.")
    key: str | None = option(default=None, flag="--web-key", secret=True, help="Key of the server.")


@hookimpl
def sidestep_providers() -> list[ProviderType]:
    """Return one that describes, one that knows lyrics, and one that stands for a local model."""
    target = f"{__name__}:WebProvider"
    everything = frozenset(FIELDS) - {"lyrics"}
    return [
        ProviderType(name="web", summary="Asks a server", config=WebConfig, target=target, supplies=everything),
        ProviderType(
            name="web_lyrics",
            summary="Asks a server for lyrics",
            config=WebConfig,
            target=target,
            supplies=frozenset({"lyrics", "language"}),
            service="web",
        ),
        ProviderType(
            name="web_local",
            summary="Asks a server for one song at a time",
            config=WebConfig,
            target=target,
            supplies=frozenset(FIELDS),
            offline=True,
            service="web",
        ),
    ]


class WebProvider:
    """Posts a prompt and a song's title as JSON and reads the answer."""

    def __init__(self, config: WebConfig, context: BuildContext) -> None:
        self._config = config

    def __enter__(self) -> Self:
        if not self._config.key:
            raise ProviderError("no key: give --web-key", kind="key")
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def check(self) -> str:
        """Ask the server who it is."""
        return str(self._post("check", {})["name"])

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Ask the server about one song."""
        if not track.path.is_file():
            raise ProviderError(f"no file '{track.path}'", kind="no audio")
        question = {
            "prompt": caption_prompt(track, wanted, hears=True),
            "schema": answer_schema(wanted),
            "title": track.title,
            "temperature": self._config.temperature,
        }
        answer = self._post("describe", question)
        return Description(fields=read_answer(answer, wanted), source="web-1", doubts=tuple(answer.get("doubts", ())))

    def _post(self, path: str, body: object) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._config.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._config.url}/{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            after = error.headers.get("Retry-After")
            kind = _FAILURES.get(error.code, "unreachable" if error.code >= 500 else "bad answer")
            reason = error.read().decode(errors="replace")
            raise ProviderError(
                f"{error.code}: {reason}", kind=kind, retry_after=float(after) if after else None
            ) from error
        except OSError as error:
            raise ProviderError(f"the server cannot be reached: {error}", kind="unreachable") from error
        except ValueError as error:
            raise ProviderError("the server's answer is no JSON", kind="bad answer") from error


@attrs.frozen(kw_only=True)
class Reply:
    """What the server answers: an object, or an error with its headers; with a status of 0 it hangs up."""

    body: object
    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict, hash=False)


@attrs.define
class Service:
    """The server while it runs: its address, and what it was asked about songs."""

    url: str
    asked: list[dict[str, Any]] = attrs.field(factory=list)
    keys: set[str] = attrs.field(factory=set)

    @property
    def titles(self) -> list[str]:
        """The songs it was asked about, in order."""
        return [question["title"] for question in self.asked]


@contextlib.contextmanager
def serve(answer: Callable[[dict[str, Any]], Reply]) -> Iterator[Service]:
    """Run a server on a free port of this machine; `answer` is called with each question about a song."""
    service = Service("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.keys.add(self.headers["Authorization"])
            reply = Reply(body={"name": "web server 1"})
            if self.path == "/describe":
                service.asked.append(body)
                reply = answer(body)
            if not reply.status:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            # a client that was killed meanwhile hears nothing
            with contextlib.suppress(OSError):
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
