"""A tensor folder of seeded noise, for tests and measurements: it fits a model and means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sidestep_core.files import hash_text
from sidestep_core.model.layout import ModelFolder, identity
from sidestep_core.store.index import StoredSong, TensorStore, conditioning_path, latents_path, open_store, write_index
from sidestep_core.store.tensors import Latents, write_conditioning, write_latents


def write_noise(
    folder: Path,
    model: ModelFolder,
    *,
    frames: Sequence[int],
    rows: Sequence[int] = (7,),
    latent: str = "sample",
    seed: int = 0,
) -> TensorStore:
    """Write a tensor folder of seeded noise: one song for each length, `rows` taken in turn."""
    generator = torch.Generator().manual_seed(seed)
    songs = []
    for index, length in enumerate(frames):
        name = f"song {index}.wav"
        count = rows[index % len(rows)]
        latents_key, conditioning_key = (hash_text(f"{kind} {name} {seed}") for kind in ("latents", "conditioning"))
        mean = torch.randn(length, 64, generator=generator)
        std = torch.rand(length, 64, generator=generator) if latent == "resample" else None
        conditioning = torch.randn(count, model.dims.condition_size, generator=generator)
        write_latents(latents_path(folder, latents_key), Latents(mean, std), {"key": latents_key})
        write_conditioning(conditioning_path(folder, conditioning_key), conditioning, {"key": conditioning_key})
        songs.append(
            StoredSong(
                name=name,
                frames=length,
                rows=count,
                seconds=length / 25,
                latents_key=latents_key,
                conditioning_key=conditioning_key,
            )
        )
    store = TensorStore(
        path=folder,
        model=identity(model),
        variant=model.variant,
        conditioning="inference",
        latent=latent,
        dtype="fp32",
        songs=tuple(songs),
    )
    write_index(store)
    return open_store(folder)
