"""Separation by Demucs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import soxr
import torch
from demucs.apply import apply_model
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.source import Samples
from sidestep_core.device import resolve_device
from sidestep_core.errors import Cancelled
from sidestep_core.specs import BuildContext

from sidestep_captioners.stems.configs import DemucsConfig
from sidestep_captioners.stems.weights import load

VOCALS = "vocals"


class DemucsSeparator:
    """Takes songs apart with one model, piece by piece, so that the length of a song does not matter."""

    def __init__(self, config: DemucsConfig, context: BuildContext) -> None:
        self._config = config
        self._model: Any = None
        self._device = ""

    def __enter__(self) -> Self:
        """Load the model; raise `CheckpointError` that names missing files and their place."""
        self._device = resolve_device(self._config.device)
        self._model = load(self._config.model, self._config.weights, download=self._config.allow_download)
        return self

    def __exit__(self, *error: object) -> None:
        """Let it go."""
        self._model = None

    @property
    def rate(self) -> int:
        """Samples a second of what it gives."""
        return int(self._model.samplerate)

    def separate(self, audio: Samples, cancelled: Callable[[], bool]) -> Mapping[str, Samples]:
        """Return the stems of audio [2, samples] at 48 kHz, each [2, samples] at `rate`."""

        def watch(_: object) -> None:
            if cancelled():
                raise Cancelled("stopped")

        mix = torch.from_numpy(resampled(audio, SAMPLE_RATE, self.rate))
        # the model was trained on songs of zero mean and unit deviation
        mean, deviation = mix.mean(), mix.mean(dim=0).std() + 1e-8
        parts = apply_model(
            self._model,
            ((mix - mean) / deviation)[None],
            shifts=self._config.shifts,
            overlap=self._config.overlap,
            device=self._device,
            callback=watch,
        )[0]
        parts = parts * deviation + mean
        return dict(zip(self._model.sources, parts.numpy(), strict=True))


def voice_of(audio: Samples, separator: DemucsSeparator, cancelled: Callable[[], bool]) -> Samples:
    """Return the voice alone of audio, both [2, samples] at 48 kHz."""
    voice = separator.separate(audio, cancelled)[VOCALS]
    return resampled(voice, separator.rate, SAMPLE_RATE)[:, : audio.shape[1]]


def resampled(audio: Samples, rate: int, wanted: int) -> Samples:
    """Return audio [2, samples] at another rate."""
    if rate == wanted:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, rate, wanted, quality="HQ").T, dtype=np.float32)
