"""VAE latents of whole songs: overlapping tiles, several of them in one batch, joined without a seam."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from sidestep_core.audio.constants import HOP, LATENT_RATE
from sidestep_core.audio.source import Samples
from sidestep_core.errors import CheckpointError

if TYPE_CHECKING:
    from diffusers import AutoencoderOobleck

_GPU_TILE = 30.0
_CPU_TILE = 5.0  # longer ones are no faster on a CPU and take memory in proportion
_SECOND_BYTES = 270_000_000  # peak of the encoder for a second of audio in float32, with something to spare
_REACH = 7 / LATENT_RATE  # how far beyond its own span a latent frame of the real encoder sees: 6.3 frames


@attrs.frozen(eq=False)
class LatentStats:
    """The VAE's distribution for one song: mean and std, float32 [frames, channels] on the CPU."""

    mean: Tensor
    std: Tensor


@attrs.frozen
class Tile:
    """One window of a song: samples [start, end), whose latent frames [first, last) are kept."""

    start: int
    end: int
    first: int
    last: int


def latent_frames(samples: int) -> int:
    """Return how many latent frames the VAE makes of that many samples at 48 kHz."""
    return samples // HOP


def choose_tile_seconds(device: str, free_bytes: int | None) -> float:
    """Return the tile length for a device ("cpu", "cuda:1", ...): 30 s, on a CPU 5 s, less where memory is short.

    Args:
        device: where the VAE is.
        free_bytes: memory that one tile may take; None when unknown. With n tiles in a batch, an n-th of what is free.
    """
    longest = _CPU_TILE if device.split(":")[0] == "cpu" else _GPU_TILE
    if free_bytes is None:
        return longest
    return float(min(longest, max(1, free_bytes // _SECOND_BYTES)))


def choose_overlap_seconds(tile_seconds: float) -> float:
    """Return the overlap on each side of a tile: a fifteenth of it, so that little is encoded twice.

    That is 2 s for the usual 30 s, and from 1.2 s on at least what the real encoder can see.
    """
    return min(max(tile_seconds / 15, _REACH), tile_seconds / 4)


def plan_tiles(samples: int, *, tile_seconds: float, overlap_seconds: float | None = None) -> list[Tile]:
    """Cut a song into tiles whose kept frames follow each other without gap; one tile if it is no longer than that.

    Args:
        samples: length of the song.
        tile_seconds: longest tile, overlaps included.
        overlap_seconds: samples encoded beyond the kept ones on each side; `choose_overlap_seconds` when None.

    Raises:
        ValueError: the overlaps leave nothing of a tile.
    """
    frames = latent_frames(samples)
    tile = round(tile_seconds * LATENT_RATE)
    if samples <= tile * HOP:
        return [Tile(0, samples, 0, frames)]
    seconds = choose_overlap_seconds(tile_seconds) if overlap_seconds is None else overlap_seconds
    overlap = round(seconds * LATENT_RATE)
    stride = tile - 2 * overlap
    if stride < 1:
        raise ValueError(f"tiles of {tile_seconds} s leave nothing between overlaps of {seconds} s on both sides")
    return [
        Tile(
            start=max(core - overlap, 0) * HOP,
            end=min((core + stride + overlap) * HOP, samples),
            first=core,
            last=min(core + stride, frames),
        )
        for core in range(0, frames, stride)
    ]


@torch.no_grad()
def encode(
    vae: AutoencoderOobleck,
    audios: Sequence[Samples],
    *,
    tile_seconds: float,
    overlap_seconds: float | None = None,
    batch_tiles: int = 1,
) -> list[LatentStats]:
    """Return the latent distribution of each song [2, samples] at 48 kHz, computed where and as the VAE's weights are.

    Args:
        vae: the 48 kHz VAE.
        audios: songs of at least one latent frame each.
        tile_seconds: longest stretch encoded at once.
        overlap_seconds: see `plan_tiles`.
        batch_tiles: how many tiles of one length, of any song, are encoded together.

    Raises:
        CheckpointError: the VAE does not make one latent frame of 1920 samples.
    """
    weight = next(vae.parameters())
    kept: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in audios]
    tiles = [
        (song, tile)
        for song, audio in enumerate(audios)
        for tile in plan_tiles(audio.shape[1], tile_seconds=tile_seconds, overlap_seconds=overlap_seconds)
    ]
    for batch in _batches(tiles, batch_tiles):
        windows = [torch.from_numpy(audios[song][:, tile.start : tile.end]) for song, tile in batch]
        mean, std = _encode_windows(vae, torch.stack(windows).to(weight.device, weight.dtype))
        for row, (song, tile) in enumerate(batch):
            inner = slice(tile.first - tile.start // HOP, tile.last - tile.start // HOP)
            kept[song][tile.first] = (mean[row, inner], std[row, inner])
    return [_join([parts[first] for first in sorted(parts)]) for parts in kept]


def _batches(tiles: Sequence[tuple[int, Tile]], size: int) -> Iterator[list[tuple[int, Tile]]]:
    by_length: defaultdict[int, list[tuple[int, Tile]]] = defaultdict(list)
    for song, tile in tiles:
        by_length[tile.end - tile.start].append((song, tile))
    for same in by_length.values():
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _encode_windows(vae: AutoencoderOobleck, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Encode [batch, 2, samples] to mean and std, float32 [batch, frames, channels] on the CPU."""
    latents = vae.encode(audio).latent_dist
    if latents.mean.shape[-1] != latent_frames(audio.shape[-1]):
        raise CheckpointError(
            f"the VAE makes {latents.mean.shape[-1]} latent frames of {audio.shape[-1]} samples "
            f"instead of {latent_frames(audio.shape[-1])}; ACE-Step 1.5 needs the 48 kHz VAE with hop {HOP}"
        )
    return latents.mean.mT.float().cpu(), latents.std.mT.float().cpu()


def _join(parts: Sequence[tuple[Tensor, Tensor]]) -> LatentStats:
    means, stds = zip(*parts, strict=True)
    return LatentStats(torch.cat(means), torch.cat(stds))


def sample(stats: LatentStats, *, seed: int, key: str) -> Tensor:
    """Draw latents [frames, channels] from a song's distribution; the same seed and key always give the same ones.

    Args:
        stats: the distribution.
        seed: seed of the run.
        key: what tells the draw from others: the song, and the step if it is drawn more than once.
    """
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return stats.mean + stats.std * torch.randn(stats.mean.shape, generator=generator)
