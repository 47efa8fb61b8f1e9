"""One optimizer step: gradients of its batches, the finite check, the update."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from sidestep_core.interfaces import Adapter, TimestepSampler
from sidestep_core.model.decoder import Decoder
from sidestep_core.training.batches import Batch
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.schedule import Schedule
from sidestep_core.training.seeds import generator, seed_of


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
        seed: seed of the run.
        max_norm: largest gradient norm.
        dtype: compute dtype.
    """

    accelerator: Accelerator
    decoder: Decoder
    adapter: Adapter
    parameters: Sequence[nn.Parameter]
    optimizer: AcceleratedOptimizer
    peaks: Sequence[float]
    schedule: Schedule
    sampler: TimestepSampler
    seed: int
    max_norm: float
    dtype: torch.dtype


@attrs.frozen(kw_only=True)
class StepResult:
    """What a step came to: mean loss over its real frames, gradient norm before clipping, rate, and if it counted."""

    loss: float
    grad_norm: float
    learning_rate: float
    applied: bool


def backward(trainer: Trainer, batch: Batch) -> Tensor:
    """Add a batch's gradients; return its part of the step's loss, left on the device."""
    plan = batch.plan
    device = trainer.accelerator.device
    batch = batch.to(device, trainer.dtype)
    place = (plan.step, plan.micro)
    # on the CPU, so that t is the same on every device
    t = trainer.sampler.sample(len(plan.crops), generator=generator("cpu", trainer.seed, "timestep", *place))
    draw = generator(device, trainer.seed, "noise", *place)
    noise = torch.randn(batch.latents.shape, generator=draw, device=device)
    # the adapter's dropout draws from torch's global generator
    torch.manual_seed(seed_of(trainer.seed, "dropout", *place))
    errors = flow_matching_loss(trainer.decoder, batch, t.to(device, non_blocking=True), noise, trainer.dtype)
    loss = errors.sum() / plan.step_frames
    trainer.accelerator.backward(loss)
    return loss.detach()


def update(trainer: Trainer, step: int, losses: Sequence[Tensor]) -> StepResult:
    """Clip and apply the gradients, unless they are not finite; then nothing changes.

    This reads one pair of numbers from the device, the only time in a step that the host waits. All of the step's
    work is queued by then, so that only the launch of the update is not hidden; in return any optimizer can be used,
    and skipping leaves it untouched.
    """
    norm = trainer.accelerator.clip_grad_norm_(trainer.parameters, trainer.max_norm)
    loss, grad_norm = torch.stack([torch.stack(list(losses)).sum(), norm.float()]).tolist()
    rate = trainer.schedule.apply(trainer.optimizer.param_groups, trainer.peaks, step)
    finite = math.isfinite(loss) and math.isfinite(grad_norm)
    # with a scaler (fp16) the optimizer must see bad gradients: it skips them itself and lowers the scale
    if finite or trainer.accelerator.scaler is not None:
        trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    if finite:
        trainer.schedule.observe(loss, step)
    return StepResult(loss=loss, grad_norm=grad_norm, learning_rate=rate, applied=finite)
