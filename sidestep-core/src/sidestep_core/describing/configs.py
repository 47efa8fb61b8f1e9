"""Settings of describing songs: of the job, and those that providers with a language model share."""

from __future__ import annotations

from pathlib import Path

from sidestep_core.options import config, option
from sidestep_core.sidecars import MergePolicy


@config
class GenerationConfig:
    """How a language model words its answer. Providers that have one take these settings with their own."""

    temperature: float = option(
        default=0.45, at_least=0, at_most=2, help="How freely words are chosen; 0 takes the likeliest."
    )
    top_p: float = option(default=0.9, above=0, at_most=1, help="Share of the likeliest words that are chosen from.")
    max_tokens: int = option(default=4096, at_least=16, help="Longest answer, in tokens.")
    presence_penalty: float = option(
        default=0.0, at_least=-2, at_most=2, advanced=True, help="Above 0, words that came up already are less likely."
    )
    frequency_penalty: float = option(
        default=0.0, at_least=-2, at_most=2, advanced=True, help="Above 0, words are less likely the more they came up."
    )
    repetition_penalty: float = option(
        default=1.05,
        above=0,
        at_most=2,
        advanced=True,
        help="Above 1, what was said is less likely to be said again; of models that run here or on an own server.",
    )


@config
class CaptionsConfig:
    """Which songs are described, and what may be overwritten."""

    audio_dir: Path | None = option(
        default=None, short="-i", aliases=("--input",), help="Folder of songs, searched with its subfolders."
    )
    policy: MergePolicy = option(
        default="fill_missing",
        help="What happens to fields that say something already: nothing, or one or all of them are overwritten.",
    )
    lyrics: bool = option(default=True, help="Look for lyrics as well.")
    default_artist: str = option(default="", help="Artist of songs whose tags and names give none.")
    workers: int = option(
        default=4, at_least=1, at_most=64, help="Songs in work at once; a provider without a network takes one."
    )
    tries: int = option(
        default=4, at_least=1, advanced=True, help="Times a provider is asked when it is busy or cannot be reached."
    )
