"""A look into every file of a tensor folder."""

from __future__ import annotations

from collections.abc import Iterator

from sidestep_core.errors import StoreError
from sidestep_core.store.index import StoredSong, TensorStore
from sidestep_core.store.tensors import load_conditioning, load_latents, read_metadata


def find_problems(store: TensorStore) -> Iterator[str]:
    """Read all tensors and yield a line for each that is missing, damaged, not finite or not what the index says."""
    for song in store.songs:
        try:
            std = load_latents(store, song).std
            load_conditioning(store, song)
        except StoreError as error:
            yield str(error)
            continue
        if store.kind == "safetensors":
            if (std is not None) != (store.latent == "resample"):
                yield f"'{store.latents_file(song)}' does not hold what --latent {store.latent} writes"
            yield from _wrong_headers(store, song)


def _wrong_headers(store: TensorStore, song: StoredSong) -> Iterator[str]:
    latents = {"key": song.latents_key, "latent": store.latent}
    conditioning = {"key": song.conditioning_key, "conditioning": store.conditioning, "model": store.model}
    for file, expected in ((store.latents_file(song), latents), (store.conditioning_file(song), conditioning)):
        header = read_metadata(file) or {}
        for name, value in expected.items():
            if header.get(name) != value:
                yield f"'{file}': its header says {name} {header.get(name)!r}, the index {value!r}"
