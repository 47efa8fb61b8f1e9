"""What takes songs apart, as the plugin offers it."""

from __future__ import annotations

from sidestep_core.specs import AnalyzerType, SeparatorType

from sidestep_captioners.stems.configs import DemucsConfig, StemsAnalyzerConfig

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

ANALYZERS = (
    AnalyzerType(
        name="stems",
        summary="Tempo, time signature and key after separation: without the voice, the key without drums",
        config=StemsAnalyzerConfig,
        target="sidestep_captioners.stems.analyzer:StemsAnalyzer",
        needs=(*NEEDS, "scipy"),
        extra=EXTRA,
        supplies=frozenset({"bpm", "key", "signature"}),
        in_processes=False,
    ),
)
