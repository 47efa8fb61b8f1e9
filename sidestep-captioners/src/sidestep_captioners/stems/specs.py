"""What takes songs apart, as the plugin offers it."""

from __future__ import annotations

from sidestep_core.specs import SeparatorType

from sidestep_captioners.stems.configs import DemucsConfig

EXTRA = "sidestep-captioners[stems]"
NEEDS = ("torch", "demucs", "soxr")

SEPARATORS = (
    SeparatorType(
        name="demucs",
        summary="Hybrid Transformer Demucs: vocals, drums, bass and the rest",
        config=DemucsConfig,
        target="sidestep_captioners.stems.demucs:DemucsSeparator",
        needs=NEEDS,
        extra=EXTRA,
        stems=frozenset({"vocals", "drums", "bass", "other"}),
    ),
)
