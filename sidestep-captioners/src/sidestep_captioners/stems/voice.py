"""The voice of a song alone, for whoever writes down lyrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidestep_core.audio.decode import decode
from sidestep_core.audio.source import Samples
from sidestep_core.errors import AudioError, CheckpointError, LoadError, ProviderError
from sidestep_core.specs import BuildContext

from sidestep_captioners.stems.configs import DemucsConfig
from sidestep_captioners.stems.specs import SEPARATORS


class Voice:
    """Demucs, loaded once; of several threads, one after the other is served."""

    def __init__(self, config: DemucsConfig) -> None:
        self._config = config
        self._separator: Any = None
        self._turn = threading.Lock()

    def open(self) -> None:
        """Load it; raise `ProviderError` where it is not installed or its weights are missing."""
        try:
            self._separator = SEPARATORS[0].build(self._config, BuildContext()).__enter__()
        except (LoadError, CheckpointError) as error:
            raise ProviderError(f"--vocals-only: {error}", kind="not found") from error

    def close(self) -> None:
        """Let it go."""
        if self._separator is not None:
            self._separator.__exit__(None, None, None)

    def hear(self, path: Path, cancelled: Callable[[], bool]) -> Samples:
        """Return the voice as float32 [2, samples] at 48 kHz; raise `ProviderError` for what cannot be decoded."""
        from sidestep_captioners.stems.demucs import voice_of

        try:
            with self._turn:
                return voice_of(decode(path), self._separator, cancelled)
        except AudioError as error:
            raise ProviderError(str(error), kind="no audio") from error
