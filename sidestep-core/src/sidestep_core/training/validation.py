"""Trying the adapter on songs that are held out: the same noise, timesteps and stretches each time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import attrs
import torch
from torch import Tensor

from sidestep_core.files import hash_text
from sidestep_core.interfaces import TimestepSampler
from sidestep_core.plan import TrainPlan
from sidestep_core.training.averaging import final_weights
from sidestep_core.training.bands import Bands, SampleLoss
from sidestep_core.training.batches import Batch, Batches
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.modes import evaluating
from sidestep_core.training.order import BatchPlan, Crop, stretch
from sidestep_core.training.record import component
from sidestep_core.training.seeds import generator, seed_of, uniform
from sidestep_core.training.sets import TrainSong
from sidestep_core.training.step import Trainer
from sidestep_core.training.weighting import typical_timesteps


@attrs.frozen
class Trial:
    """One forward pass: its samples, all of one song, and their timesteps."""

    plan: BatchPlan
    t: tuple[float, ...]


@attrs.frozen
class ValidationLoss:
    """What the held-out songs gave: the mean over all real frames, and over those of each band of t."""

    loss: float
    bands: tuple[float, ...]


class Validator:
    """Measures the weights that the run would give away, and leaves the run as it was.

    What is tried is settled when this is made; noise is drawn on the CPU, so that it is the same on every device. The
    same weights give the same number to the bit on the same machine.

    Args:
        batches: makes the samples of the trials.
        trials: what is tried.
        measure: tells apart validators whose numbers cannot be compared.
    """

    def __init__(self, batches: Batches, trials: Sequence[Trial], measure: str) -> None:
        self._batches, self.trials, self.measure = batches, trials, measure

    @torch.no_grad()
    def validate(self, trainer: Trainer) -> ValidationLoss:
        """Return the loss of the held-out songs. The device is read once, when all is queued."""
        weights = final_weights(trainer.parameters, trainer.optimizer, trainer.average)
        with weights, evaluating(trainer.decoder):
            errors = torch.cat([self._errors(trainer, trial) for trial in self.trials]).tolist()
        crops = [(t, crop) for trial in self.trials for t, crop in zip(trial.t, trial.plan.crops, strict=True)]
        bands = Bands()
        for error, (t, crop) in zip(errors, crops, strict=True):
            bands.add(SampleLoss(t, error, crop.length))
        return ValidationLoss(math.fsum(errors) / sum(bands.frames), bands.means)

    def _errors(self, trainer: Trainer, trial: Trial) -> Tensor:
        device = trainer.accelerator.device
        batch: Batch = self._batches[trial.plan]
        noise = torch.stack([_noise(crop, batch.latents.shape[2]) for crop in trial.plan.crops])
        t = torch.tensor(trial.t).to(device)
        return flow_matching_loss(
            trainer.decoder, batch.to(device, trainer.dtype), t, noise.to(device, non_blocking=True), trainer.dtype
        )


def make_validator(plan: TrainPlan, sampler: TimestepSampler, null_condition: Tensor, *, in_memory: bool) -> Validator:
    """Return what tries a plan's held-out songs.

    Args:
        plan: the run.
        sampler: one as the run's, that has seen nothing and is not used for anything else.
        null_condition: [1, E], of the model.
        in_memory: read the songs now instead of each time.

    Raises:
        StoreError: a file is missing, damaged or not finite.
    """
    train, keep = plan.request.train, plan.request.keep
    trials = make_trials(
        plan.held_out,
        typical_timesteps(sampler, "validation"),
        seed=train.seed,
        window=plan.window,
        points=keep.validation_points,
        # without gradients, two samples take less memory than one does in training
        batch_size=2 * train.batch_size,
    )
    batches = Batches(plan.held_out, null_condition, in_memory=in_memory)
    return Validator(batches, tuple(trials), _measure(plan))


def make_trials(
    songs: Sequence[TrainSong], draws: Tensor, *, seed: int, window: int | None, points: int, batch_size: int
) -> Iterator[Trial]:
    """Yield the forward passes of a validation.

    Each song is tried at `points` timesteps, one from each of as many equal shares of the draws in their order, so
    that their mean is that of training; each song has other ones of these shares' timesteps.

    Args:
        songs: what is held out.
        draws: timesteps as training draws them.
        seed: seed of the run.
        window: longest stretch in frames, None for whole songs; each point has a stretch of its own.
        points: timesteps for each song.
        batch_size: most samples in a forward pass; all are of one song, so that nothing is padded.
    """
    ordered = draws.sort().values.tolist()
    for index, song in enumerate(songs):
        offset = uniform(seed, "validation", song.name)
        samples = [
            (
                Crop(index, *stretch(song, seed, point, window), seed_of(seed, "validation", song.name, point)),
                ordered[int((point + offset) / points * len(ordered))],
            )
            for point in range(points)
        ]
        for first in range(0, points, batch_size):
            crops, t = zip(*samples[first : first + batch_size], strict=True)
            yield Trial(BatchPlan(0, 0, crops, sum(crop.length for crop in crops)), t)


def _noise(crop: Crop, channels: int) -> Tensor:
    return torch.randn(crop.length, channels, generator=generator("cpu", crop.draw, "noise"))


def _measure(plan: TrainPlan) -> str:
    """Return a hash of everything that decides what is tried, and on which model."""
    train = plan.request.train
    songs = [(song.name, song.stored.latents_key, song.stored.conditioning_key) for song in plan.held_out]
    window = (train.timestep_min, train.timestep_max)
    how = (plan.identity, component(plan.components.timesteps), window, train.seed, plan.window)
    return hash_text(json.dumps([songs, how, plan.request.keep.validation_points]))
