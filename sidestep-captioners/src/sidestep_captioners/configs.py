"""Settings of this package's providers and analysers; light, as every interface is made from them."""

from __future__ import annotations

from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.options import config, option


@config
class OpenAIConfig(GenerationConfig):
    """Settings of the provider that asks OpenAI, or any server that speaks its chat protocol."""

    model: str = option(default="gpt-audio-1.5", flag="--ai-model", aliases=("--model",), help="Model that listens.")
    api_key: str | None = option(default=None, flag="--openai-api-key", secret=True, help="Key of the service.")
    base_url: str | None = option(
        default=None,
        flag="--openai-base-url",
        help="Address of another server that speaks OpenAI's chat protocol, with its /v1; else OPENAI_BASE_URL.",
    )
    timeout: float = option(default=180.0, above=0, advanced=True, help="Seconds to wait for an answer.")


@config
class GeminiConfig(GenerationConfig):
    """Settings of the provider that asks Google's Gemini."""

    model: str = option(default="gemini-2.5-flash", flag="--ai-model", aliases=("--model",), help="Model that listens.")
    api_key: str | None = option(default=None, flag="--gemini-api-key", secret=True, help="Key of the service.")
    google_search: bool = option(default=False, help="Let the model look the song up with Google Search.")
    timeout: float = option(default=180.0, above=0, advanced=True, help="Seconds to wait for an answer.")


@config
class GeniusConfig:
    """Settings of the provider that looks lyrics up at Genius."""

    token: str | None = option(default=None, flag="--genius-token", secret=True, help="Access token of its API.")
    least_score: float = option(
        default=0.8,
        at_least=0,
        at_most=1,
        help="How alike title and artist must be to what was found, 1 being the same.",
    )
    api_url: str = option(
        default="https://api.genius.com", flag="--genius-api-url", advanced=True, help="Address of its API."
    )
    web_url: str = option(
        default="https://genius.com", flag="--genius-web-url", advanced=True, help="Address of its pages."
    )
    timeout: float = option(default=15.0, above=0, advanced=True, help="Seconds to wait for an answer.")


@config
class MusicFlamingoConfig:
    """Settings of the provider that asks a Music Flamingo server, space or endpoint."""

    url: str | None = option(
        default=None, flag="--music-flamingo-url", help="Address of the server, the Gradio space or the endpoint."
    )
    token: str | None = option(
        default=None, flag="--hf-token", secret=True, help="Hugging Face token, sent to Hugging Face's hosts only."
    )
    send_token: bool = option(default=False, help="Send the token to the server at any address.")
    timeout: float = option(default=240.0, above=0, advanced=True, help="Seconds to wait for an answer.")


@config
class TranscriberConfig:
    """Settings of the provider that has a server write the lyrics down."""

    url: str | None = option(default=None, flag="--transcriber-server-url", help="Address of the server.")
    vocals_only: bool = option(
        default=False, help="Send the voice alone, separated as by 'sidestep stems'; needs the weights for that."
    )
    timeout: float = option(default=180.0, above=0, advanced=True, help="Seconds to wait for an answer.")


@config
class SignalConfig:
    """Settings of the default analyser."""

    slowest: int = option(default=40, at_least=40, at_most=240, help="Slowest tempo to consider, in beats a minute.")
    fastest: int = option(default=240, at_least=40, at_most=240, help="Fastest tempo to consider, in beats a minute.")

    def __attrs_post_init__(self) -> None:
        if self.slowest >= self.fastest:
            raise ValueError(f"slowest ({self.slowest}) must be below fastest ({self.fastest})")
