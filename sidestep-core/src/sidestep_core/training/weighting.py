"""How a run's timesteps are distributed, and weights of samples by their timestep."""

from __future__ import annotations

import torch
from torch import Tensor

from sidestep_core.configs import TrainConfig
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import TimestepSampler
from sidestep_core.training.seeds import generator

BATCHES, BATCH = 1024, 16


def typical_timesteps(sampler: TimestepSampler, purpose: str) -> Tensor:
    """Return 16,384 draws of a sampler from a seed that is the purpose's own, the same in every run."""
    draw = generator("cpu", purpose)
    return torch.cat([sampler.sample(BATCH, generator=draw) for _ in range(BATCHES)])


def min_snr(t: Tensor, gamma: float) -> Tensor:
    """Return min(snr, gamma) * t^2 with snr = ((1 - t) / t)^2, for t in [0, 1].

    The error of the latents is t times that of the predicted flow, so this is the weight min(snr, gamma) of the
    latents' error. Written without the division, it holds at t = 0 too.
    """
    return torch.minimum((1 - t).square(), gamma * t.square())


class MinSnr:
    """`min_snr`, scaled so that its mean over a sampler's draws is 1: the learning rate keeps its meaning.

    The mean is taken once, over 16,384 draws from a fixed seed; where a sampler adapts, before it has seen a loss.

    Args:
        gamma: signal-to-noise ratio above which the weight of an error no longer grows.
        sampler: what the run draws timesteps with.

    Raises:
        ConfigError: no timestep of the sampler has a weight.
    """

    def __init__(self, gamma: float, sampler: TimestepSampler) -> None:
        self._gamma = gamma
        self._mean = min_snr(typical_timesteps(sampler, "weighting").double(), gamma).mean().item()
        if not self._mean > 0:
            raise ConfigError("--loss-weighting min_snr gives every timestep that is drawn the weight 0; use none")

    def __call__(self, t: Tensor) -> Tensor:
        """Return the weights of timesteps [B]."""
        return min_snr(t, self._gamma) / self._mean


def make_weighting(train: TrainConfig, sampler: TimestepSampler) -> MinSnr | None:
    """Return the weighting that the settings ask for, None for equal weights."""
    return MinSnr(train.snr_gamma, sampler) if train.loss_weighting == "min_snr" else None
