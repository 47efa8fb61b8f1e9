"""The services of `fake_services`, running, and songs to describe."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_services import Gemini, Genius, Reply, Server, answer_openai, serving
from sidestep_core.interfaces import Track
from sidestep_core.testing.providers import write_tone


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server, given a reply or a function of the request."""
    with contextlib.ExitStack() as stack:

        def start(answer: Any) -> Server:
            fixed = Reply(body=answer) if not callable(answer) else None
            return stack.enter_context(serving(answer if fixed is None else lambda _: fixed))

        yield start


@pytest.fixture
def openai_server(serve: Callable[..., Server]) -> Server:
    return serve(answer_openai)


@pytest.fixture
def gemini() -> Gemini:
    return Gemini()


@pytest.fixture
def gemini_server(serve: Callable[..., Server], gemini: Gemini, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = serve(gemini.answer)
    gemini.url = server.url
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    return server


@pytest.fixture
def genius() -> Genius:
    return Genius()


@pytest.fixture
def genius_server(serve: Callable[..., Server], genius: Genius) -> Server:
    return serve(genius.answer)


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """Two seconds of a tone as WAV, with names that are not ASCII."""
    path = tmp_path / "Björk – Jóga 日本 🎵.wav"
    write_tone(path)
    return Track(path=path, title="Jóga 日本", artist="Björk", duration=2.0)


@pytest.fixture(scope="session")
def mp3() -> bytes:
    """A second of noise as MP3."""
    made = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype("float32")
    soundfile.write(made, noise, 44100, format="MP3")
    return made.getvalue()


@pytest.fixture
def long_track(tmp_path: Path, mp3: bytes) -> Track:
    """An MP3 that is too large to stand within a question."""
    path = tmp_path / "Ærlig талант.mp3"
    path.write_bytes(mp3 * ((15 << 20) // len(mp3)))
    return Track(path=path, title="Ærlig талант", artist="Åse")
