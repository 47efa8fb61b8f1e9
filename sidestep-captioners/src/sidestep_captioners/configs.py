"""Settings of the analysers; light, as every interface is made from them."""

from __future__ import annotations

from sidestep_core.options import config, option


@config
class SignalConfig:
    """Settings of the default analyser."""

    slowest: int = option(default=40, at_least=40, at_most=240, help="Slowest tempo to consider, in beats a minute.")
    fastest: int = option(default=240, at_least=40, at_most=240, help="Fastest tempo to consider, in beats a minute.")

    def __attrs_post_init__(self) -> None:
        if self.slowest >= self.fastest:
            raise ValueError(f"slowest ({self.slowest}) must be below fastest ({self.fastest})")
