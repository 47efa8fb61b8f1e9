"""What an analysis is asked to do, handed from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.capabilities import Resolved
from sidestep_core.configs import ModelConfig
from sidestep_core.device import resolve_device, resolve_precision
from sidestep_core.errors import Cancelled, ConfigError
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.layout import identity
from sidestep_core.settings import cache_folder
from sidestep_core.specs import AdapterType
from sidestep_core.store.index import TensorStore


@attrs.frozen(kw_only=True)
class Work:
    """What is analyzed, and how.

    Attributes:
        config: settings.
        adapter: adapter type whose parameters are counted.
        model: the model.
        identity: hash that tells it from others.
        stores: the tensor folders.
        device: where it is done.
        precision: compute precision.
        cache: folder for what does not depend on the songs.
        cancelled: asked between songs and weights.
    """

    config: AnalyzeConfig
    adapter: AdapterType
    model: ModelFolder
    identity: str
    stores: Sequence[TensorStore]
    device: str
    precision: Resolved
    cache: Path
    cancelled: Callable[[], bool]

    def stop_if_cancelled(self) -> None:
        """Raise `Cancelled` if it was asked to stop."""
        if self.cancelled():
            raise Cancelled("stopped; no rank map was written")


def make_work(
    config: AnalyzeConfig,
    model: ModelConfig,
    adapter: AdapterType,
    folder: ModelFolder,
    stores: Sequence[TensorStore],
    cancelled: Callable[[], bool],
    cache: Path | None,
) -> Work:
    """Return what is to be done, on the device and in the precision that the settings name.

    Raises:
        ConfigError: the device is not there, or the precision cannot hold gradients.
    """
    device = resolve_device(model.device)
    precision = resolve_precision(model.precision, device)
    if precision == "fp16":
        if model.precision == "fp16":
            raise ConfigError("fp16 cannot hold the gradients of whole weights; use --precision bf16 or fp32")
        precision = "fp32"  # what an old GPU has instead of bf16
    return Work(
        config=config,
        adapter=adapter,
        model=folder,
        identity=identity(folder),
        stores=stores,
        device=device,
        precision=precision,
        cache=cache or cache_folder(),
        cancelled=cancelled,
    )
