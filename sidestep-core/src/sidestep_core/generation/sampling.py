"""From noise to latents: Euler steps along the flow that the decoder predicts."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from sidestep_core.audio.constants import LATENT_CHANNELS, LATENT_RATE
from sidestep_core.generation.guidance import Guidance
from sidestep_core.generation.samplers import Sampler
from sidestep_core.model.decoder import Decoder
from sidestep_core.training.seeds import generator


def draw_noise(seconds: float, seed: int) -> Tensor:
    """Return noise [frames, channels] for so much audio: the same for a seed, on every device and at every step."""
    # drawn frame by frame: a shorter preview begins as a longer one does
    frames = math.ceil(seconds * LATENT_RATE)
    return torch.randn(frames, LATENT_CHANNELS, generator=generator("cpu", seed, "preview"))


# no_grad, not inference_mode: what the decoder keeps of this length may later be needed by a step of training
@torch.no_grad()
def sample(decoder: Decoder, conditioning: Tensor, noise: Tensor, sampler: Sampler) -> Tensor:
    """Return latents [frames, channels], float32 on the decoder's device.

    With guidance the decoder runs twice a step, one after the other: that takes less memory than both at once, and the
    empty condition then costs a single row.

    Args:
        decoder: in the mode that its adapter is to be used in; nothing of it is changed.
        conditioning: rows [L, E].
        noise: [frames, channels].
        sampler: steps and guidance.
    """
    device = decoder.null_condition.device
    rows = conditioning[None].to(device, decoder.dtype)
    latents = noise[None].to(device, torch.float32)
    guidance = Guidance(sampler.guidance) if sampler.guidance > 1 else None
    for now, then in pairwise(sampler.timesteps()):
        t = torch.full((1,), now, device=device)
        flow = decoder(latents, t, rows).float()
        if guidance is not None:
            flow = guidance(flow, decoder(latents, t, decoder.null_condition).float())
        latents = latents + (then - now) * flow
    return latents[0]
