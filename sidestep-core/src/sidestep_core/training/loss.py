"""The objective: how far the predicted flow is from the way from latents to noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sidestep_core.training.batches import Batch

Decoder = Callable[..., Tensor]


def flow_matching_loss(decoder: Decoder, batch: Batch, t: Tensor, noise: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the squared error summed over real frames, one value a sample [B].

    Args:
        decoder: predicts the flow from (noisy latents, t, conditioning).
        batch: samples on the device.
        t: float32 timesteps [B]; 1 is pure noise.
        noise: float32 [B, T, 64].
        dtype: of the decoder's input. All else is float32: a bf16 timestep has only some 450 values, and a bf16
            target carries the rounding of a difference.
    """
    mix = t[:, None, None]  # [B] -> [B, 1, 1]
    noisy = mix * noise + (1 - mix) * batch.latents
    predicted = decoder(noisy.to(dtype), t, batch.conditioning, frames=batch.frames, rows=batch.rows)
    error = (predicted.float() - (noise - batch.latents)).square().mean(dim=2)  # [B, T]
    if batch.frames is not None:
        error = error.where(batch.frames, 0.0)
    return error.sum(dim=1)
