"""Settings of separation; light, as every interface is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sidestep_core.options import config, option


@config
class DemucsModelConfig:
    """Which Demucs, where its files are, and how it is used."""

    model: str = option(default="htdemucs", help="Which Demucs: htdemucs, htdemucs_ft (slower, better) or htdemucs_6s.")
    weights: Path | None = option(
        default=None, help="Folder of the model's files; first looked at, then sidestep's own folder."
    )
    allow_download: bool = option(default=False, help="Fetch weights that are not on this machine.")
    overlap: float = option(
        default=0.25, at_least=0, at_most=0.9, advanced=True, help="Share by which pieces of a song overlap."
    )
    shifts: int = option(
        default=0, at_least=0, advanced=True, help="Times a song is shifted and taken apart again, for a mean of all."
    )


@config
class DemucsConfig(DemucsModelConfig):
    """Settings of Demucs."""

    device: str = option(default="auto", help="Where the model runs: auto, cpu, cuda, mps or xpu.")


@config
class StemsAnalyzerConfig(DemucsModelConfig):
    """Settings of the analyser that listens to stems."""

    mode: Literal["mid", "sas"] = option(
        default="mid", help="Measure a song as a whole (mid), or in several parts that have to agree (sas)."
    )
    chunks: int = option(default=5, at_least=2, at_most=20, help="Parts that a song is measured in with sas.")
