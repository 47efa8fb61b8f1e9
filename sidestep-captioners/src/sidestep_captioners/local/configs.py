"""Settings of the models that run on this machine; light, as every interface is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.options import config, option

Tier = Literal["8-10gb", "16gb"]


@config
class LocalModelConfig(GenerationConfig):
    """What all of them share: where weights are, where the model runs, how it words its answer."""

    weights: Path | None = option(
        default=None,
        help="Folder of the model's files, or of several models' folders; first looked at, then sidestep's own folder.",
    )
    allow_download: bool = option(default=False, help="Fetch weights that are not on this machine.")
    device: str = option(default="auto", help="Where the model runs: auto, cpu, cuda, mps or xpu.")
    cpu_offload: bool = option(
        default=False, help="Keep layers that find no room on the device in main memory; slow, but it runs."
    )
    temperature: float = option(
        default=0.35, at_least=0, at_most=2, help="How freely words are chosen; 0 takes the likeliest."
    )
    top_p: float = option(default=0.85, above=0, at_most=1, help="Share of the likeliest words that are chosen from.")
    max_tokens: int = option(default=640, at_least=16, help="Longest answer, in tokens.")
    repetition_penalty: float = option(
        default=1.08, above=0, at_most=2, advanced=True, help="Above 1, what was said is less likely to be said again."
    )
    seed: int = option(default=0, at_least=0, advanced=True, help="Seed of the choice of words.")


@config
class CaptionerConfig(LocalModelConfig):
    """Settings of the models that describe songs."""

    model: str = option(
        default="acestep-captioner",
        flag="--ai-model",
        aliases=("--model",),
        help="Who listens: acestep-captioner, qwen2.5-omni-7b, or the folder or hub name of a model built like them.",
    )
    seconds: float = option(
        default=120.0,
        at_least=5,
        at_most=300,
        help="Seconds that are listened to: all of a shorter song, parts from all over a longer one.",
    )


@config
class TranscriberConfig(LocalModelConfig):
    """Settings of the model that writes lyrics down."""

    model: str = option(
        default="acestep-transcriber",
        flag="--ai-model",
        aliases=("--model",),
        help="Who listens: acestep-transcriber, or the folder or hub name of a model built like it.",
    )
    memory: Tier = option(default="16gb", help="Memory of the device: below 16 GB the weights are kept in four bits.")
    seconds: float = option(
        default=240.0,
        at_least=5,
        at_most=300,
        help="Seconds written down in one piece; longer songs take several.",
    )
    vocals_only: bool = option(
        default=False, help="Let it hear the voice alone, separated as by 'sidestep stems'; needs the weights for that."
    )
    # the same words come again in every chorus, and they should
    temperature: float = option(
        default=0.0, at_least=0, at_most=2, help="How freely words are chosen; 0 takes the likeliest."
    )
    max_tokens: int = option(default=2048, at_least=16, help="Longest answer for one piece, in tokens.")
    repetition_penalty: float = option(
        default=1.0, above=0, at_most=2, advanced=True, help="Above 1, what was said is less likely to be said again."
    )


@config
class FlamingoConfig(LocalModelConfig):
    """Settings of Music Flamingo on this machine."""

    model: str = option(
        default="music-flamingo",
        flag="--ai-model",
        aliases=("--model",),
        help="Who listens: music-flamingo, or the folder or hub name of a model built like it.",
    )
    accept_license: bool = option(
        default=False,
        help="Say that you keep NVIDIA's OneWay Noncommercial licence, under which the weights of music-flamingo are.",
    )
    memory: Tier = option(default="16gb", help="Memory of the device: below 16 GB the weights are kept in four bits.")
    seconds: float = option(
        default=300.0,
        at_least=5,
        at_most=1200,
        help="Seconds that are listened to: all of a shorter song, parts from all over a longer one.",
    )
