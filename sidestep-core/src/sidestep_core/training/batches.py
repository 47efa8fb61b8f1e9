"""Batches: songs read from the store, cropped, padded and stacked, ahead of time where that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from sidestep_core.configs import DataConfig
from sidestep_core.errors import StoreError
from sidestep_core.store.tensors import Latents, load_conditioning, load_latents
from sidestep_core.training.order import BatchPlan, Crop
from sidestep_core.training.sets import TrainSong


@attrs.frozen
class Batch:
    """Samples of one forward pass.

    Attributes:
        plan: what it is made of.
        latents: [B, T, 64], zero where a sample is shorter than the longest.
        conditioning: [B, L, E], zero likewise.
        frames: bool [B, T], real frames; None when all are.
        rows: bool [B, L], real rows; None when all are.
    """

    plan: BatchPlan
    latents: Tensor
    conditioning: Tensor
    frames: Tensor | None = None
    rows: Tensor | None = None

    def pin_memory(self) -> Batch:
        """Return the batch where a GPU can copy it directly."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return the batch on a device: latents in float32, conditioning in the compute dtype."""
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        return attrs.evolve(moved, latents=moved.latents.float(), conditioning=moved.conditioning.to(dtype))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            self.plan,
            change(self.latents),
            change(self.conditioning),
            None if self.frames is None else change(self.frames),
            None if self.rows is None else change(self.rows),
        )


@attrs.frozen
class StoredTensors:
    """One song's tensors in memory: latents [T, 64] (mean and perhaps deviation), conditioning [L, E]."""

    latents: Latents
    conditioning: Tensor


class Batches(Dataset[Batch]):
    """Makes the batch of a plan; `plan` takes the place of the index, so that nothing has to be remembered.

    Args:
        songs: the songs that plans count.
        null_condition: [1, E], takes the place of a dropped condition. One row is exact: all would be equal.
        in_memory: read every song now instead of each time it is needed.

    Raises:
        StoreError: a file is missing, damaged or not finite (now if `in_memory`, else when it is read).
    """

    def __init__(self, songs: Sequence[TrainSong], null_condition: Tensor, *, in_memory: bool) -> None:
        self._songs = songs
        self._null = null_condition
        self._kept = [self._read(song) for song in songs] if in_memory else None

    def __getitem__(self, plan: BatchPlan) -> Batch:
        """Return the batch on the CPU."""
        songs = [self._song(crop.song) for crop in plan.crops]
        latents, frames = pad([cut(song.latents, crop) for song, crop in zip(songs, plan.crops, strict=True)])
        conditioning, rows = pad(
            [
                self._null.to(s.conditioning) if c.dropped else s.conditioning
                for s, c in zip(songs, plan.crops, strict=True)
            ]
        )
        return Batch(plan, latents, conditioning, frames, rows)

    def _song(self, index: int) -> StoredTensors:
        return self._kept[index] if self._kept is not None else self._read(self._songs[index])

    def _read(self, song: TrainSong) -> StoredTensors:
        conditioning = load_conditioning(song.store, song.stored)
        width, wanted = conditioning.shape[1], self._null.shape[1]
        if width != wanted:
            raise StoreError(
                f"the conditioning of {song.name!r} is {width} wide where the model takes {wanted}; "
                "run 'sidestep preprocess' with this model"
            )
        return StoredTensors(load_latents(song.store, song.stored), conditioning)


def cut(latents: Latents, crop: Crop) -> Tensor:
    """Return the frames [length, 64] of a crop, drawn anew for this visit where a deviation is stored."""
    stretch = slice(crop.start, crop.start + crop.length)
    if latents.std is None:
        return latents.mean[stretch]
    noise = torch.randn(crop.length, latents.mean.shape[1], generator=torch.Generator().manual_seed(crop.draw))
    return latents.mean[stretch].float() + latents.std[stretch].float() * noise


def pad(samples: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Stack [length, channels] tensors, with zeros behind the shorter ones.

    Returns:
        The stack [B, longest, channels] and a bool mask [B, longest] of what is real, None when all is.
    """
    lengths = [len(sample) for sample in samples]
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.stack(list(samples)), None
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return pad_sequence(list(samples), batch_first=True), real


def stored_bytes(songs: Iterable[TrainSong], condition_size: int) -> int:
    """Return how much memory the tensors of songs take (an upper bound where the dtype is not known)."""
    return sum(_stored_bytes(song, condition_size) for song in songs)


def _stored_bytes(song: TrainSong, condition_size: int) -> int:
    width = 2 if song.store.dtype in ("bf16", "fp16") else 4
    latents = 128 if song.store.latent == "resample" else 64
    return width * (song.frames * latents + song.rows * condition_size)


def load_batches(
    batches: Batches, plans: Iterable[BatchPlan], config: DataConfig, *, workers: bool, pin: bool
) -> Iterator[Batch]:
    """Yield the batches of plans, read ahead by loader processes if asked.

    Args:
        batches: makes them.
        plans: in the order they are needed.
        config: how many processes, and how far ahead.
        workers: read in other processes.
        pin: hand batches over where a GPU can copy them directly.

    Raises:
        StoreError: a file is missing, damaged or not finite.
    """
    count = config.num_workers if workers else 0
    loader = DataLoader(
        batches,
        sampler=plans,  # an index may be anything, here it is the plan itself
        batch_size=None,
        num_workers=count,
        prefetch_factor=config.prefetch_factor if count else None,
        collate_fn=_as_it_is,
        pin_memory=pin and config.pin_memory,
    )
    try:
        yield from loader
    except StoreError as error:
        # a loader process wraps its traceback around the message
        raise StoreError(str(error).rpartition("StoreError: ")[2].strip()) from None


def _as_it_is(batch: Any) -> Any:
    return batch
