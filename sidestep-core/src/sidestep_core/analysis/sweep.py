"""Squared gradients of frozen weights, from one backward pass over each song."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sidestep_core.analysis.sampling import noise_seed
from sidestep_core.errors import OutOfMemory
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.names import module_path
from sidestep_core.training.batches import Batch
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.memory_check import is_about_memory
from sidestep_core.training.seeds import generator


class Sweep:
    """Measures the weights of a decoder's projections song by song.

    A weight's gradient is squared and summed as soon as the backward pass has made it, and freed before the next one
    is made. What remains of it is one float32 number on the device.

    Args:
        decoder: frozen; its projections' weights get gradients from now on, its parameters never hold one.
        names: projections, by original name.
    """

    def __init__(self, decoder: Decoder, names: Sequence[str]) -> None:
        self._decoder = decoder
        weights = [_weight(decoder, name) for name in names]
        self._sizes = [weight.numel() for weight in weights]
        self._sums = torch.zeros(len(weights), dtype=torch.float32, device=weights[0].device)
        for place, weight in enumerate(weights):
            weight.requires_grad_(True)
            weight.register_post_accumulate_grad_hook(partial(self._take, place))

    def measure(self, batch: Batch, t: float) -> list[float]:
        """Return each projection's mean squared gradient of the loss of one song: training's loss, never weighted.

        This reads the sums from the device: the only time that the host waits.

        Args:
            batch: one song with its own condition, on the CPU.
            t: timestep.

        Raises:
            OutOfMemory: the song is too long for the memory of the device.
        """
        device, dtype = self._sums.device, self._decoder.dtype
        # drawn on the CPU, so that every device sees the same noise
        noise = torch.randn(batch.latents.shape, generator=generator("cpu", *noise_seed(batch.plan.step)))
        try:
            moved = batch.to(device, dtype)
            times = torch.tensor([t], device=device)
            with _deterministic(device):
                error = flow_matching_loss(self._decoder, moved, times, noise.to(device), dtype)
                (error.sum() / batch.plan.step_frames).backward()
            sums = self._sums.tolist()
        except (MemoryError, RuntimeError) as error:
            if not is_about_memory(error):
                raise
            raise OutOfMemory(
                f"{batch.latents.shape[1] / 25:.0f} seconds of music do not fit into the memory of {device}; "
                "use --chunk-duration 60, --gradient-checkpointing or another --device"
            ) from error
        self._sums.zero_()
        return [total / size for total, size in zip(sums, self._sizes, strict=True)]

    def _take(self, place: int, weight: Tensor) -> None:
        gradient = weight.grad
        assert gradient is not None
        weight.grad = None
        # in float32 the gradient itself is squared: nobody else has it
        self._sums[place] += gradient.float().square_().sum()


def finite(scores: Sequence[float]) -> bool:
    """Tell whether all scores are numbers to count with."""
    return all(map(math.isfinite, scores))


def _weight(decoder: Decoder, name: str) -> nn.Parameter:
    module = decoder.transformer.get_submodule(module_path(name))
    weight: nn.Parameter = module.weight
    return weight


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Choose kernels on CUDA that give the same sums every time; the CPU's do anyway."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            # of kernels that have no such form
            warnings.filterwarnings("ignore", message="(?i).*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
