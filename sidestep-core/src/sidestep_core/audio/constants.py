"""The audio format that the VAE works in."""

from __future__ import annotations

from typing import Final

SAMPLE_RATE: Final = 48_000
CHANNELS: Final = 2
HOP: Final = 1_920  # samples of one latent frame
LATENT_RATE: Final = SAMPLE_RATE // HOP  # latent frames a second
LATENT_CHANNELS: Final = 64
