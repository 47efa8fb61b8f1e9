"""How far an adapter moves what each layer of the decoder gives, on the real weights, for inputs of one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.reading import deltas
from sidestep_core.formats.saved import SavedAdapter
from sidestep_core.generation.adapted import add_deltas
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.load import load_decoder

TIMESTEPS = (0.9, 0.5, 0.1)
_ROWS = 64  # of conditioning
_NOTHING = 1e-5


@attrs.frozen(kw_only=True)
class Effect:
    """What an adapter does.

    Attributes:
        layers: for each layer, the norm of the change of its output as a share of the output's own.
        flow: the same for what the decoder predicts.
        modules: adapted modules.
    """

    layers: tuple[float, ...]
    flow: float
    modules: int

    @property
    def nothing(self) -> bool:
        """Whether it changes nothing that anybody could hear."""
        return not self.flow > _NOTHING


@torch.no_grad()
def measure_effect(
    saved: SavedAdapter, model: ModelFolder, *, seconds: float, seed: int, device: str, dtype: torch.dtype
) -> Effect:
    """Return how far an adapter moves the outputs of the decoder's layers.

    The inputs are noise at a few timesteps and rows around the model's own empty condition, all drawn from the seed.

    Raises:
        AdapterError: the adapter is damaged or does not fit the model.
        CheckpointError: the model cannot be loaded.
    """
    base = BaseWeights(model)
    decoder = load_decoder(model, device=device, dtype=dtype)
    inputs = _inputs(decoder, seconds, seed)
    before, flow_before = _outputs(decoder, inputs)
    modules = saved.modules()
    add_deltas(decoder, deltas(saved, base))
    after, flow_after = _outputs(decoder, inputs)
    layers = tuple(_moved(b, a) for b, a in zip(before, after, strict=True))
    return Effect(layers=layers, flow=_moved(flow_before, flow_after), modules=len(modules))


def _inputs(decoder: Decoder, seconds: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy latents [batch, frames, channels], timesteps [batch] and conditioning [batch, rows, E]."""
    generator = torch.Generator().manual_seed(seed)
    batch, device, dtype = len(TIMESTEPS), decoder.null_condition.device, decoder.dtype
    frames, channels = max(2, round(seconds * 25)), decoder.dims.latent_channels
    noisy = torch.randn(1, frames, channels, generator=generator).expand(batch, -1, -1)
    empty = decoder.null_condition.float().cpu()  # [1, 1, E]
    rows = empty + empty.std() * torch.randn(1, _ROWS, empty.shape[-1], generator=generator)
    return (
        noisy.to(device, dtype),
        torch.tensor(TIMESTEPS, device=device),
        rows.expand(batch, -1, -1).to(device, dtype),
    )


def _outputs(decoder: Decoder, inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
    with _kept(decoder.transformer.layers) as kept:
        flow: Tensor = decoder(*inputs)
    return kept, flow.float()


@contextmanager
def _kept(layers: Any) -> Iterator[list[Tensor]]:
    """Collect what each layer gives while the body runs."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        kept.append(hidden.float().cpu())

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _moved(before: Tensor, after: Tensor) -> float:
    size = before.norm()
    return float((after - before).norm() / size) if size > 0 else 0.0
