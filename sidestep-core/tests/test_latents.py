"""Latents of tiles join to the latents of the whole song, whatever the tiles and batches are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sidestep_core.errors import CheckpointError
from sidestep_core.preprocess.latents import (
    LatentStats,
    choose_overlap_seconds,
    choose_tile_seconds,
    encode,
    latent_frames,
    plan_tiles,
    sample,
)
from torch import Tensor, nn

GIGABYTE = 1_000_000_000


class PoolingVae(nn.Module):
    """Stands in for the VAE where only windows matter: a latent frame is the mean of its samples in 64 copies."""

    def __init__(self, hop: int = 1_920) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(64, 2, 1) / 2)
        self.pool = nn.AvgPool1d(hop)
        self.seen: list[tuple[int, ...]] = []
        self.dtypes: set[torch.dtype] = set()

    def encode(self, audio: Tensor) -> SimpleNamespace:
        self.seen.append(tuple(audio.shape))
        self.dtypes.add(audio.dtype)
        mean = nn.functional.conv1d(self.pool(audio), self.gain)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=mean.abs() + 0.5))


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((2, samples)).astype(np.float32) * np.float32(0.2)


def pooled(audio: NDArray[np.float32]) -> Tensor:
    frames = audio.shape[1] // 1_920
    return torch.from_numpy(audio[:, : frames * 1_920].reshape(2, frames, 1_920).mean(axis=(0, 2)))


@pytest.fixture(scope="module")
def thin_vae() -> nn.Module:
    """The real VAE's class with its real strides, and so its real field of view, but four channels wide."""
    from diffusers import AutoencoderOobleck

    torch.manual_seed(0)
    return AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4, 4, 6, 10],
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_channels=4,
        decoder_input_channels=2,
        audio_channels=2,
        sampling_rate=48_000,
    ).eval()


@pytest.mark.parametrize(
    ("samples", "chunk", "windows", "frames"),
    [
        (480_000, 1_440_000, [480_000], 250),
        (4_800_000, 1_440_000, [1_344_000, 1_440_000, 1_440_000, 1_152_000], 2_500),
        (4_800_777, 1_440_000, [1_344_000, 1_440_000, 1_440_000, 1_152_777], 2_500),
        (2_928_000, 720_000, [624_000, 720_000, 720_000, 720_000, 720_000, 384_000], 1_525),
    ],
)
def test_windows_agree_with_the_reference(samples: int, chunk: int, windows: list[int], frames: int) -> None:
    vae, audio = PoolingVae(), noise(samples)
    (stats,) = encode(vae, [audio], tile_seconds=chunk / 48_000, overlap_seconds=2.0)
    assert sorted(vae.seen) == sorted((1, 2, window) for window in windows)
    assert stats.mean.shape == stats.std.shape == (frames, 64)
    np.testing.assert_allclose(stats.mean[:, 0], pooled(audio), atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(1_920, 5_000_000),
    tile=st.floats(1.0, 40.0),
    overlap=st.one_of(st.none(), st.floats(0.0, 0.45)),
)
def test_tiles_cover_every_frame_once_and_are_never_too_long(samples: int, tile: float, overlap: float | None) -> None:
    tiles = plan_tiles(samples, tile_seconds=tile, overlap_seconds=overlap)
    kept = [frame for each in tiles for frame in range(each.first, each.last)]
    assert kept == list(range(latent_frames(samples)))
    assert all(each.end - each.start <= round(tile * 25) * 1_920 for each in tiles)
    assert all(each.start % 1_920 == 0 and 0 <= each.start < each.end <= samples for each in tiles)
    assert all(each.start <= each.first * 1_920 and each.last * 1_920 <= each.end for each in tiles)


def test_overlaps_reach_the_asked_length_on_both_sides() -> None:
    first, *inner, last = plan_tiles(4_800_000, tile_seconds=10, overlap_seconds=1.0)
    assert first.start == 0
    assert all(tile.first * 1_920 - tile.start == 48_000 for tile in (*inner, last))
    assert all(tile.end - tile.last * 1_920 == 48_000 for tile in (first, *inner))
    assert last.end == 4_800_000


def test_overlaps_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing"):
        plan_tiles(480_000, tile_seconds=2.0, overlap_seconds=1.0)


@pytest.mark.parametrize(("samples", "frames"), [(1_919, 0), (1_920, 1), (48_000, 25), (4_800_777, 2_500)])
def test_a_partial_frame_does_not_count(samples: int, frames: int) -> None:
    assert latent_frames(samples) == frames


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_the_batch_size_changes_nothing(batch: int) -> None:
    songs = [noise(length, seed) for seed, length in enumerate((48_000, 200_000, 96_777, 200_000, 1_920))]
    stats = encode(PoolingVae(), songs, tile_seconds=1.0, batch_tiles=batch)
    for song, each in zip(songs, stats, strict=True):
        np.testing.assert_allclose(each.mean[:, 63], pooled(song), atol=1e-6)


def test_tiles_of_several_songs_share_a_batch() -> None:
    vae = PoolingVae()
    encode(vae, [noise(48_000, seed) for seed in range(6)], tile_seconds=5.0, batch_tiles=4)
    assert vae.seen == [(4, 2, 48_000), (2, 2, 48_000)]


def test_no_batch_mixes_lengths_or_exceeds_its_size() -> None:
    vae = PoolingVae()
    encode(vae, [noise(length) for length in (300_000, 310_000, 300_000)], tile_seconds=2.0, batch_tiles=3)
    assert max(batch for batch, _, _ in vae.seen) == 3
    assert sum(batch for batch, _, _ in vae.seen) == sum(
        len(plan_tiles(length, tile_seconds=2.0)) for length in (300_000, 310_000, 300_000)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_weights_dtype_is_used_and_float32_returned(dtype: torch.dtype) -> None:
    vae = PoolingVae().to(dtype)
    (stats,) = encode(vae, [noise(48_000)], tile_seconds=5.0)
    assert vae.dtypes == {dtype}
    assert stats.mean.dtype == stats.std.dtype == torch.float32
    assert stats.mean.device.type == "cpu"


def test_nothing_needs_a_gradient() -> None:
    (stats,) = encode(PoolingVae(), [noise(48_000)], tile_seconds=5.0)
    assert not stats.mean.requires_grad
    assert not stats.std.requires_grad
    assert not stats.mean.is_inference()


def test_another_hop_is_refused() -> None:
    with pytest.raises(CheckpointError, match="50 latent frames of 48000 samples instead of 25"):
        encode(PoolingVae(hop=960), [noise(48_000)], tile_seconds=5.0)


@pytest.mark.parametrize("tile", [1.2, 2.0, 5.0])
def test_the_real_strides_show_no_seam(thin_vae: nn.Module, tile: float) -> None:
    song = noise(48_000 * 7 + 777)
    (whole,), (tiled,) = (encode(thin_vae, [song], tile_seconds=length) for length in (30.0, tile))
    assert whole.mean.shape == tiled.mean.shape == (175, 2)
    assert (tiled.mean - whole.mean).abs().max() < 1e-4 * whole.mean.std()
    assert (tiled.std - whole.std).abs().max() < 1e-4 * whole.std.std()


def test_without_overlap_there_would_be_seams(thin_vae: nn.Module) -> None:
    song = noise(96_000)
    (whole,) = encode(thin_vae, [song], tile_seconds=30.0)
    (tiled,) = encode(thin_vae, [song], tile_seconds=1.0, overlap_seconds=0.0)
    assert (tiled.mean - whole.mean).abs().max() > 0.1 * whole.mean.std()


def test_the_encoder_sees_no_further_than_the_default_overlap(thin_vae: nn.Module) -> None:
    song, changed = noise(48_000), noise(48_000)
    changed[:, 24 * 1_920 :] += 1  # frame 24
    (before,), (after,) = (encode(thin_vae, [audio], tile_seconds=30.0) for audio in (song, changed))
    reach = round(choose_overlap_seconds(2.0) * 25)
    torch.testing.assert_close(before.mean[: 24 - reach], after.mean[: 24 - reach], rtol=0, atol=1e-6)
    assert not torch.allclose(before.mean[22], after.mean[22])


@pytest.mark.slow
def test_the_tiny_checkpoints_vae_gives_64_channels_and_bounded_seams(tiny_checkpoint: Path) -> None:
    from diffusers import AutoencoderOobleck

    vae = AutoencoderOobleck.from_pretrained(tiny_checkpoint / "vae").eval()
    song = noise(60_000)
    (whole,) = encode(vae, [song], tile_seconds=2.0)
    assert whole.mean.shape == whole.std.shape == (31, 64)
    assert whole.std.min() > 0
    seams = [
        (encode(vae, [song], tile_seconds=1.0, overlap_seconds=overlap)[0].mean - whole.mean).norm() / whole.mean.norm()
        for overlap in (None, 0.0)
    ]
    # it strides by 10 first and so sees a second around, four times as far as the real one: bounded, not exact
    assert seams[0] < 0.5
    assert seams[0] < 0.7 * seams[1]


@pytest.mark.parametrize(
    ("device", "free", "seconds"),
    [
        ("cuda", 24 * GIGABYTE, 30.0),
        ("cuda:1", None, 30.0),
        ("mps", None, 30.0),
        ("cuda", 6 * GIGABYTE, 22.0),
        ("cuda", 4 * GIGABYTE, 14.0),
        ("cuda", GIGABYTE, 3.0),
        ("cuda", 0, 1.0),
        ("cpu", None, 5.0),
        ("cpu", 64 * GIGABYTE, 5.0),
        ("cpu", GIGABYTE, 3.0),
    ],
)
def test_tiles_are_30_seconds_and_less_on_a_cpu_or_without_room(device: str, free: int | None, seconds: float) -> None:
    assert choose_tile_seconds(device, free) == seconds


def test_the_usual_tile_overlaps_by_two_seconds() -> None:
    assert choose_overlap_seconds(30.0) == 2.0


@pytest.mark.parametrize("tile", [1.0, 2.0, 5.0, 15.0, 30.0, 60.0])
def test_overlaps_stay_small_and_reach_far_enough(tile: float) -> None:
    overlap = choose_overlap_seconds(tile)
    assert overlap <= tile / 4
    assert overlap >= min(0.28, tile / 4)


def stats_of(frames: int = 50) -> LatentStats:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(frames, 64, generator=generator)
    return LatentStats(mean, torch.full_like(mean, 0.1))


def test_a_sample_is_a_function_of_seed_and_key() -> None:
    first = sample(stats_of(), seed=42, key="a/song.wav")
    torch.rand(7)  # the global generator has no part in it
    torch.testing.assert_close(first, sample(stats_of(), seed=42, key="a/song.wav"), rtol=0, atol=0)


@pytest.mark.parametrize(("seed", "key"), [(43, "a/song.wav"), (42, "b/song.wav"), (4, "2:a/song.wav")])
def test_another_seed_or_key_gives_another_sample(seed: int, key: str) -> None:
    assert not torch.equal(sample(stats_of(), seed=42, key="a/song.wav"), sample(stats_of(), seed=seed, key=key))


def test_samples_follow_the_distribution() -> None:
    stats = stats_of(frames=2_000)
    noise_of = (sample(stats, seed=0, key="song") - stats.mean) / stats.std
    assert noise_of.mean() == pytest.approx(0, abs=0.02)
    assert noise_of.std() == pytest.approx(1, abs=0.02)


def test_sampling_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    sample(stats_of(), seed=0, key="song")
    assert torch.equal(before, torch.get_rng_state())
