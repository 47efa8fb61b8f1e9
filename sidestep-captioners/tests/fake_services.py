"""Servers on this machine that speak the services' formats over real sockets, with faults that tests plan."""

from __future__ import annotations

import contextlib
import email
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs

ANSWER = {
    "caption": "A warm folk song with a soft voice.",
    "genre": ["folk", "indie"],
    "bpm": 96,
    "key": "C minor",
    "signature": "4/4",
    "language": "no",
    "is_instrumental": False,
}
KEY = "sk-right-0123456789"


@attrs.frozen(kw_only=True)
class Asked:
    """A request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = attrs.field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, Any]:
        """The fields of a multipart form; a file is (name, type, bytes)."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        fields = {}
        for part in email.message_from_bytes(head + self.body).get_payload():
            name, file = (part.get_param(key, header="content-disposition") for key in ("name", "filename"))
            data = part.get_payload(decode=True)
            fields[name] = (file, part.get_content_type(), data) if file else data.decode()
        return fields


@attrs.frozen(kw_only=True)
class Reply:
    """What goes back: JSON, text or bytes, or a fault.

    `cut` sends half of the body and hangs up, `drop` hangs up at once, `stall` begins and never goes on.
    """

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    fault: str = ""

    def content(self) -> tuple[bytes, str]:
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


@attrs.define
class Server:
    """A server while it runs; what it was asked, and what it will answer."""

    answer: Callable[[Asked], Reply]
    url: str = ""
    asked: list[Asked] = attrs.field(factory=list)
    ended: threading.Event = attrs.field(factory=threading.Event)
    # hang up in the middle of what is sent to paths that hold this
    torn: str = ""
    _planned: list[tuple[str, Reply]] = attrs.field(factory=list)

    def plan(self, body: Any = "", *, at: str = "", times: int = 1, **reply: Any) -> None:
        """Answer the next requests whose path holds `at` in another way than usual."""
        self._planned += [(at, Reply(body=body, **reply))] * times

    def reply_to(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        for number, (at, reply) in enumerate(self._planned):
            if at in asked.path:
                del self._planned[number]
                return reply
        return self.answer(asked)

    @property
    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle_any(self) -> None:
        fake: Server = self.server.fake
        parts = urlsplit(self.path)
        if fake.torn and fake.torn in parts.path:
            self.rfile.read(1000)
            self.close_connection = True
            return
        asked = Asked(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        reply = fake.reply_to(asked)
        content, kind = reply.content()
        with contextlib.suppress(OSError):
            if reply.fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if reply.fault == "hang":
                fake.ended.wait()
            self.send_response(reply.status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.fault else content)
            if reply.fault == "stall":
                fake.ended.wait()
            if reply.fault:
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_DELETE = handle_any

    def log_message(self, format: str, *args: object) -> None:
        return None


@contextlib.contextmanager
def serving(answer: Callable[[Asked], Reply]) -> Iterator[Server]:
    """Run a server on a free port."""
    fake = Server(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.fake = fake
    fake.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield fake
    finally:
        fake.ended.set()
        server.shutdown()
        server.server_close()


def completion(message: dict[str, Any], *, finish: str = "stop", audio: int | None = 50) -> dict[str, Any]:
    """A chat completion of OpenAI."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-audio-1.5-2026-02-23",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": None, **message}}
        ],
        "usage": {
            "prompt_tokens": 90,
            "completion_tokens": 9,
            "total_tokens": 99,
            "prompt_tokens_details": {"audio_tokens": audio, "text_tokens": 40},
        },
    }


def tool_call(arguments: Any) -> dict[str, Any]:
    """A message that calls the function asked for."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": "describe_song", "arguments": text}
    return {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


def answer_openai(asked: Asked) -> Reply:
    if asked.headers.get("authorization") != f"Bearer {KEY}":
        error = {
            "message": f"Incorrect API key provided: {asked.headers.get('authorization')}",
            "code": "invalid_api_key",
        }
        return Reply(status=401, body={"error": error})
    if asked.path == "/v1/models":
        names = ("gpt-audio-1.5", "gpt-4o")
        return Reply(body={"object": "list", "data": [{"id": n, "object": "model", "created": 1} for n in names]})
    wanted = asked.json()["tools"][0]["function"]["parameters"]["required"]
    return Reply(body=completion(tool_call({name: ANSWER[name] for name in wanted})))


def generated(text: str, *, finish: str = "STOP", audio: int = 50, **more: Any) -> dict[str, Any]:
    """An answer of Gemini's generateContent."""
    counted = [{"modality": "TEXT", "tokenCount": 40}]
    counted += [{"modality": "AUDIO", "tokenCount": audio}] if audio else []
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish, "index": 0, **more}
    usage = {"promptTokenCount": 90, "totalTokenCount": 99, "promptTokensDetails": counted}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}


def google_error(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    """An error as Google's services write it."""
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


@attrs.define
class Gemini:
    """Gemini's interface with its files."""

    url: str = ""
    files: dict[str, bytes] = attrs.field(factory=dict)
    states: list[str] = attrs.field(factory=list)
    shown: list[str] = attrs.field(factory=list)
    _opened: str = ""

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/upload/put":  # an address that only who asked for it knows
            return self._upload(asked)
        if asked.headers.get("x-goog-api-key") != KEY:
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            return Reply(status=400, body=google_error(400, "INVALID_ARGUMENT", "API key not valid.", reason))
        if asked.path.endswith(":generateContent"):
            schema = asked.json()["generationConfig"].get("responseJsonSchema")
            wanted = schema["required"] if schema else ANSWER
            return Reply(body=generated(json.dumps({name: ANSWER[name] for name in wanted})))
        if asked.path.startswith("/upload"):
            return self._upload(asked)
        if asked.path.rpartition("/files/")[1]:
            return self._file(asked, "files/" + asked.path.rpartition("/files/")[2])
        return Reply(body={"name": asked.path.partition("/v1/")[2] or asked.path.partition("/v1beta/")[2]})

    def _upload(self, asked: Asked) -> Reply:
        command = asked.headers["x-goog-upload-command"]
        if command == "start":
            file = asked.json()["file"]
            self._opened = file["name"]
            self.files[self._opened] = b""
            self.shown.append(file.get("displayName") or file.get("display_name"))
            return Reply(
                body={}, headers={"x-goog-upload-url": f"{self.url}/upload/put", "x-goog-upload-status": "active"}
            )
        self.files[self._opened] += asked.body
        if "finalize" not in command:
            return Reply(body={}, headers={"x-goog-upload-status": "active"})
        return Reply(body={"file": self._described(self._opened)}, headers={"x-goog-upload-status": "final"})

    def _file(self, asked: Asked, name: str) -> Reply:
        if name not in self.files:
            return Reply(status=404, body=google_error(404, "NOT_FOUND", "no such file"))
        if asked.method == "DELETE":
            del self.files[name]
            return Reply(body={})
        return Reply(body=self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        state = self.states.pop(0) if self.states else "ACTIVE"
        return {"name": name, "uri": f"https://files.invalid/{name}", "mimeType": "audio/mpeg", "state": state}


PAGE = """<!DOCTYPE html><html><head><title>Jóga</title><script>alert("[Verse] no")</script></head><body>
<div class="x"><div data-lyrics-container="true" class="a"><div data-exclude-from-selection="true">
<div>12 Contributors</div><h2>Jóga Lyrics</h2></div>[Verse 1: Björk]<br/>All these
<a href="/1"><span>accidents</span></a><br/>That happen<br/>
Follow the dots &amp; <i>lines</i><br/><br/>[Chorus - Björk]<br/>Emotional landscapes</div>
<div>You might also like</div>
<div data-lyrics-container="true">[Bridge (Björk &amp; Choir)]<br/>Lyrics of my own<br/>State of emergency</div>
</div></body></html>
"""


def song(title: str, artist: str, number: int = 7, **more: Any) -> dict[str, Any]:
    """A search result of Genius."""
    path = f"/{number}-lyrics"
    return {
        "id": number,
        "title": title,
        "artist_names": artist,
        "path": path,
        "primary_artist": {"name": artist},
        **more,
    }


@attrs.define
class Genius:
    """The interface and the pages of Genius; it knows the songs in its list."""

    songs: list[dict[str, Any]] = attrs.field(factory=lambda: [song("Jóga", "Björk"), song("Hello", "Adele", 8)])
    page: str = PAGE

    def answer(self, asked: Asked) -> Reply:
        if asked.path.endswith("-lyrics"):
            return Reply(body=self.page)
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return Reply(
                status=401, body={"error": "invalid_token", "error_description": "The access token is invalid"}
            )
        if asked.path == "/search":
            return Reply(body={"response": {"hits": [{"type": "song", "result": found} for found in self.songs]}})
        return Reply(body={"response": {"song": {"language": "en", "instrumental": False}}})


def never() -> bool:
    return False
