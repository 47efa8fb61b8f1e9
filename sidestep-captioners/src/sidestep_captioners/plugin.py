"""Registers the analysers of this package."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.specs import AnalyzerType

from sidestep_captioners.configs import SignalConfig

sidestep_api = 1


@hookimpl
def sidestep_analyzers() -> list[AnalyzerType]:
    """Return the analysers of this package."""
    return [
        AnalyzerType(
            name="signal",
            summary="Tempo, time signature and key by signal processing alone",
            config=SignalConfig,
            target="sidestep_captioners.analysis.signal:SignalAnalyzer",
            needs=("numpy", "scipy", "soxr"),
            extra="sidestep-captioners[analysis]",
            supplies=frozenset({"bpm", "key", "signature"}),
        )
    ]
