"""One optimizer step: gradients of its batches, the finite check, the update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from sidestep_core.interfaces import Adapter, TimestepSampler
from sidestep_core.model.decoder import Decoder
from sidestep_core.training.averaging import Average
from sidestep_core.training.bands import SampleLoss
from sidestep_core.training.batches import Batch
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.order import BatchPlan
from sidestep_core.training.schedule import Schedule
from sidestep_core.training.seeds import generator, seed_of
from sidestep_core.training.weighting import MinSnr


@attrs.frozen(kw_only=True)
class Trainer:
    """The parts of a run that a step needs.

    Attributes:
        accelerator: places, casts, scales and clips.
        decoder: the frozen model with the adapter on it.
        adapter: what is trained.
        parameters: its trainable tensors.
        optimizer: over the adapter's groups.
        peaks: peak learning rate of each group.
        schedule: factor on the peaks.
        sampler: draws timesteps.
        weighting: weights of samples by their timestep, None for equal ones.
        average: of the parameters, None if none is kept.
        seed: seed of the run.
        max_norm: largest gradient norm.
        dtype: compute dtype.
        gradients_every: steps between those whose gradient norms are kept for each tensor; 0 for none.
    """

    accelerator: Accelerator
    decoder: Decoder
    adapter: Adapter
    parameters: Sequence[nn.Parameter]
    optimizer: AcceleratedOptimizer
    peaks: Sequence[float]
    schedule: Schedule
    sampler: TimestepSampler
    weighting: MinSnr | None
    average: Average | None
    seed: int
    max_norm: float
    dtype: torch.dtype
    gradients_every: int = 0


@attrs.frozen(kw_only=True)
class BatchLoss:
    """What a batch gave.

    Attributes:
        errors: squared error summed over each sample's frames [B], on the device.
        weights: of the samples [B], on the CPU.
        t: timesteps [B], on the CPU.
        frames: real frames of each sample.
    """

    errors: Tensor
    weights: Tensor
    t: Tensor
    frames: Sequence[int]


@attrs.frozen(kw_only=True)
class StepResult:
    """What a step came to.

    Attributes:
        loss: mean over its real frames, every sample with the weight 1.
        weighted: the same with the weights that were trained with.
        grad_norm: gradient norm before clipping.
        learning_rate: of the first parameter group.
        applied: whether the step counted.
        samples: what each of its samples gave, with the weight 1.
        overflow: it did not, but only because the gradients were scaled up too far (fp16).
        gradients: norm of each tensor's gradient after clipping, at the steps at which they are wanted.
    """

    loss: float
    weighted: float
    grad_norm: float
    learning_rate: float
    applied: bool
    samples: Sequence[SampleLoss]
    overflow: bool = False
    gradients: Mapping[str, float] = attrs.field(factory=dict)


def backward(trainer: Trainer, batch: Batch) -> BatchLoss:
    """Add a batch's gradients; return its errors, left on the device."""
    plan = batch.plan
    device = trainer.accelerator.device
    batch = batch.to(device, trainer.dtype)
    place = (plan.step, plan.micro)
    t, weights = _timesteps(trainer, plan)
    draw = generator(device, trainer.seed, "noise", *place)
    noise = torch.randn(batch.latents.shape, generator=draw, device=device)
    # the adapter's dropout draws from torch's global generator
    torch.manual_seed(seed_of(trainer.seed, "dropout", *place))
    errors = flow_matching_loss(trainer.decoder, batch, t.to(device, non_blocking=True), noise, trainer.dtype)
    loss = (errors * weights.to(device, non_blocking=True)).sum() / plan.step_frames
    trainer.accelerator.backward(loss)
    return BatchLoss(errors=errors.detach(), weights=weights, t=t, frames=[crop.length for crop in plan.crops])


def elsewhere(trainer: Trainer, plan: BatchPlan) -> BatchLoss:
    """Return what a batch gives that another process computes, with errors of zero until those are known."""
    errors = torch.zeros(len(plan.crops), device=trainer.accelerator.device)
    t, weights = _timesteps(trainer, plan)
    return BatchLoss(errors=errors, weights=weights, t=t, frames=[crop.length for crop in plan.crops])


def _timesteps(trainer: Trainer, plan: BatchPlan) -> tuple[Tensor, Tensor]:
    """Return the timesteps of a batch and the weights of its samples, both [B] on the CPU."""
    # on the CPU, so that t is the same on every device
    draw = generator("cpu", trainer.seed, "timestep", plan.step, plan.micro)
    t = trainer.sampler.sample(len(plan.crops), generator=draw)
    weights = torch.tensor([crop.weight for crop in plan.crops])
    return t, weights if trainer.weighting is None else weights * trainer.weighting(t)


def update(trainer: Trainer, step: int, losses: Sequence[BatchLoss]) -> StepResult:
    """Clip and apply the gradients, unless they are not finite; then nothing changes.

    This reads the errors and the gradient norm from the device, in one piece: the only time in a step that the host
    waits. All of the step's work is queued by then, so that only the launch of the update is not hidden; in return any
    optimizer can be used, and skipping leaves it untouched.
    """
    norm = trainer.accelerator.clip_grad_norm_(trainer.parameters, trainer.max_norm)
    *errors, grad_norm = torch.cat([*(part.errors for part in losses), norm.float().reshape(1)]).tolist()
    gradients = _gradient_norms(trainer) if _every(step + 1, trainer.gradients_every) else {}
    frames = [count for part in losses for count in part.frames]
    weights = torch.cat([part.weights for part in losses]).tolist()
    t = torch.cat([part.t for part in losses]).tolist()
    loss = math.fsum(errors) / sum(frames)
    rate = trainer.schedule.apply(trainer.optimizer.param_groups, trainer.peaks, step)
    finite = math.isfinite(loss) and math.isfinite(grad_norm)
    scaler = trainer.accelerator.scaler
    overflow = not finite and math.isfinite(loss) and _can_scale_less(scaler)
    # with a scaler (fp16) the optimizer must see bad gradients: it skips them itself and lowers the scale
    if finite or scaler is not None:
        trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    if finite:
        _follow(trainer, step, loss, losses, [error / count for error, count in zip(errors, frames, strict=True)])
    return StepResult(
        loss=loss,
        weighted=math.fsum(error * weight for error, weight in zip(errors, weights, strict=True)) / sum(frames),
        grad_norm=grad_norm,
        learning_rate=rate,
        applied=finite,
        samples=[SampleLoss(*sample) for sample in zip(t, errors, frames, strict=True)],
        overflow=overflow,
        gradients=gradients,
    )


def _gradient_norms(trainer: Trainer) -> dict[str, float]:
    """Return the norm of every trained tensor's gradient by name; the host waits for them once more."""
    named = [(name, parameter.grad) for name, parameter in trainer.adapter.parameters()]
    norms = [grad.float().norm() for _, grad in named if grad is not None]
    names = [name for name, grad in named if grad is not None]
    return dict(zip(names, torch.stack(norms).tolist() if norms else (), strict=True))


def _every(number: int, steps: int) -> bool:
    return steps > 0 and number % steps == 0


def _follow(
    trainer: Trainer, step: int, loss: float, parts: Sequence[BatchLoss], sample_losses: Sequence[float]
) -> None:
    """Show what was learned to everything that follows the run: the average, the controllers, the sampler."""
    if trainer.average is not None:
        trainer.average.update()
    trainer.schedule.observe(loss, step)
    if hasattr(trainer.sampler, "observe"):
        trainer.sampler.observe(torch.cat([part.t for part in parts]), torch.tensor(sample_losses))


def _can_scale_less(scaler: Any) -> bool:
    # below 1 the scale is no longer what makes gradients overflow; reading it waits for the device, but only here
    return scaler is not None and scaler.get_scale() > 1
