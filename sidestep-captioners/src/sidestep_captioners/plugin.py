"""Registers the providers and analysers of this package, and what takes songs apart."""

from __future__ import annotations

from sidestep_core import hookimpl
from sidestep_core.describing.plan import ALONG, DESCRIPTION, LYRICS
from sidestep_core.specs import AnalyzerType, ProviderType, SeparatorType

from sidestep_captioners.configs import (
    GeminiConfig,
    GeniusConfig,
    MusicFlamingoConfig,
    OpenAIConfig,
    SignalConfig,
    TranscriberConfig,
)
from sidestep_captioners.local.specs import LOCAL_PROVIDERS
from sidestep_captioners.stems.specs import ANALYZERS, SEPARATORS

sidestep_api = 1


@hookimpl
def sidestep_providers() -> list[ProviderType]:
    """Offer services, servers and models of this machine that describe songs or know their lyrics."""
    return [
        ProviderType(
            name="gemini",
            summary="Google's Gemini listens and describes",
            target="sidestep_captioners.gemini:GeminiProvider",
            config=GeminiConfig,
            needs=("google-genai",),
            extra="sidestep-captioners[gemini]",
            supplies=DESCRIPTION | ALONG,
        ),
        ProviderType(
            name="openai",
            summary="OpenAI, or a server that speaks its chat protocol, listens and describes",
            target="sidestep_captioners.openai_chat:OpenAIProvider",
            config=OpenAIConfig,
            needs=("openai",),
            extra="sidestep-captioners[openai]",
            supplies=DESCRIPTION | ALONG,
        ),
        ProviderType(
            name="genius",
            summary="Lyrics that people wrote down at genius.com, by title and artist",
            target="sidestep_captioners.genius:GeniusProvider",
            config=GeniusConfig,
            supplies=LYRICS,
        ),
        ProviderType(
            name="music_flamingo",
            summary="A Music Flamingo server, Gradio space or Hugging Face endpoint",
            target="sidestep_captioners.music_flamingo:MusicFlamingoProvider",
            config=MusicFlamingoConfig,
            service="huggingface",
            supplies=DESCRIPTION | LYRICS,
        ),
        ProviderType(
            name="transcriber_server",
            summary="A server that writes down what is sung",
            target="sidestep_captioners.transcriber:TranscriberProvider",
            config=TranscriberConfig,
            supplies=LYRICS - {"is_instrumental"},
        ),
        *LOCAL_PROVIDERS,
    ]


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
        ),
        *ANALYZERS,
    ]


@hookimpl
def sidestep_separators() -> list[SeparatorType]:
    """Return what takes songs apart."""
    return [*SEPARATORS]
