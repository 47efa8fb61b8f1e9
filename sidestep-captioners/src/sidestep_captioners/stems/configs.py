"""Settings of separation; light, as every interface is made from them."""

from __future__ import annotations

from pathlib import Path

from sidestep_core.options import config, option


@config
class DemucsConfig:
    """Settings of Demucs."""

    model: str = option(default="htdemucs", help="Which Demucs: htdemucs, htdemucs_ft (slower, better) or htdemucs_6s.")
    weights: Path | None = option(
        default=None, help="Folder of the model's files; first looked at, then sidestep's own folder."
    )
    allow_download: bool = option(default=False, help="Fetch weights that are not on this machine.")
    device: str = option(default="auto", help="Where the model runs: auto, cpu, cuda, mps or xpu.")
    overlap: float = option(
        default=0.25, at_least=0, at_most=0.9, advanced=True, help="Share by which pieces of a song overlap."
    )
    shifts: int = option(
        default=0, at_least=0, advanced=True, help="Times a song is shifted and taken apart again, for a mean of all."
    )
