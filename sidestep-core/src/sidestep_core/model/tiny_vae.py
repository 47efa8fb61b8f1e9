"""The VAE of the tiny checkpoint: the real rate, hop and channels with as little inside as the class allows."""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderOobleck
from torch import Tensor

from sidestep_core.model.components import build_vae

SAMPLE_RATE = 48_000
CHANNELS = 64
SILENCE_FRAMES = 15_000  # 600 s, as in the real file


def make_vae() -> AutoencoderOobleck:
    """Return a float32 VAE whose latents of music have a deviation near 1 and whose audio stays within [-1, 1].

    The encoder's first block works at 48 kHz and is as wide as its output (mean and scale of 64 latents); everything
    else is cheap because the longest stride comes first.
    """
    vae = build_vae(
        {
            "encoder_hidden_size": 2 * CHANNELS,
            "downsampling_ratios": [10, 6, 4, 4, 2],
            "channel_multiples": [1, 1, 1, 1, 1],
            "decoder_channels": 4,
            "decoder_input_channels": CHANNELS,
            "audio_channels": 2,
            "sampling_rate": SAMPLE_RATE,
        }
    ).eval()
    _calibrate(vae)
    return vae


@torch.no_grad()
def encode_silence(vae: AutoencoderOobleck) -> Tensor:
    """Return [1, 64, 15000] bfloat16, channels first as ACE-Step has it: half a second, its settled frame repeated."""
    latents: Tensor = vae.encode(torch.zeros(1, 2, SAMPLE_RATE // 2)).latent_dist.mode()
    settled = latents.shape[-1] // 2
    tail = latents[..., settled : settled + 1].expand(-1, -1, SILENCE_FRAMES - settled)
    return torch.cat([latents[..., :settled], tail], dim=-1).to(torch.bfloat16)


@torch.no_grad()
def _calibrate(vae: AutoencoderOobleck) -> None:
    """Rescale the last layer of encoder and decoder on half a second of a beat."""
    head = vae.encoder.conv2
    mean, scale = vae.encoder(_beat()).chunk(2, dim=1)
    center, spread = mean.mean(dim=(0, 2)), mean.std(dim=(0, 2)).clamp(min=1e-6)
    head.weight_g.mul_(torch.cat([1 / spread, 0.1 / scale.std(dim=(0, 2)).clamp(min=1e-6)])[:, None, None])
    head.bias[:CHANNELS] = (head.bias[:CHANNELS] - center) / spread
    head.bias[CHANNELS:] = -4.0  # a small deviation of the latent distribution
    latents = (mean - center[:, None]) / spread[:, None]
    vae.decoder.conv2.weight_g.mul_(0.25 / vae.decode(latents).sample.std().clamp(min=1e-6))


def _beat() -> Tensor:
    """Return [1, 2, 24000]: a drum, a bass and a noisy tick."""
    t = torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    drum = torch.sin(2 * math.pi * (50 + 80 * torch.exp(-40 * t)) * t) * torch.exp(-16 * t)
    bass = 0.25 * torch.sign(torch.sin(2 * math.pi * 55 * t))
    tick = 0.2 * torch.randn(len(t)) * torch.exp(-80 * (t - 0.25).abs())
    audio = torch.stack([drum + bass, drum + bass + tick])
    return (0.7 * audio / audio.abs().max())[None]
