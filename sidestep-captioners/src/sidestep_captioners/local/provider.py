"""What the providers that run here share: opening a model, asking it with as much as fits, telling what was reduced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import torch
from sidestep_core.audio.source import Samples
from sidestep_core.errors import ProviderError

from sidestep_captioners.local.configs import CaptionerConfig, FlamingoConfig, TranscriberConfig
from sidestep_captioners.local.hearing import RATE
from sidestep_captioners.local.ladder import efforts, told, with_less
from sidestep_captioners.local.listener import Effort, Listener
from sidestep_captioners.local.loading import Placement, place
from sidestep_captioners.local.weights import Located, locate

Config = CaptionerConfig | TranscriberConfig | FlamingoConfig
Load = Callable[[Located, Placement], Listener]
T = TypeVar("T")


class OpenModel:
    """A model from the first moment it is needed until it is let go, and what it can be asked in this memory."""

    def __init__(self, config: Config, load: Load, *, four_bit: bool) -> None:
        self.config = config
        self._load, self._four_bit = load, four_bit
        self._listener: Listener | None = None
        self._full = Effort(seconds=config.seconds, max_tokens=config.max_tokens)
        # what did not fit once is not tried again for every song
        self._rungs: Sequence[Effort] = efforts(self._full)

    @property
    def listener(self) -> Listener:
        """The loaded model; raise `ProviderError` before it is opened."""
        if self._listener is None:
            raise ProviderError("the model is not loaded", kind="not found")
        return self._listener

    def check(self) -> str:
        """Return in one line what would listen; raise `ProviderError` where files are missing."""
        located = self._locate(download=False)
        return f"{located.name} in '{located.folder}', {self._place()}"

    def open(self) -> Self:
        """Load the model."""
        self._listener = self._load(self._locate(download=self.config.allow_download), self._place())
        return self

    def close(self) -> None:
        """Let it go."""
        if self._listener is not None:
            self._listener.close()
        self._listener = None

    def attempt(self, audio: Samples, ask: Callable[[Effort], T], *, whole: bool) -> tuple[T, tuple[str, ...]]:
        """Return what a way of asking gives with as much as fits in memory, and what was reduced.

        Args:
            audio: the song, for its length.
            ask: called with less and less until it fits.
            whole: all of the song is heard, in pieces if need be.
        """
        torch.manual_seed(self.config.seed)
        made, self._rungs = with_less(self._rungs, ask, self.listener.placement)
        return made, tuple(told(self._full, self._rungs[0], len(audio) / RATE, whole=whole))

    def _locate(self, *, download: bool) -> Located:
        return locate(self.config.model, self.config.weights, download=download)

    def _place(self) -> Placement:
        return place(self.config.device, four_bit=self._four_bit, offload=self.config.cpu_offload)
