"""Tensor files: latents [T, 64] and conditioning [L, E], written whole and finite, and checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidestep_core.errors import StoreError
from sidestep_core.files import write_atomic
from sidestep_core.store import legacy
from sidestep_core.store.index import FORMAT, StoredSong, TensorStore
from sidestep_core.tensor_files import tensor_bytes


@attrs.frozen
class Latents:
    """Latents of a song [T, 64]; `std` is there when every training step is to draw anew from N(mean, std)."""

    mean: Tensor
    std: Tensor | None = None


def write_latents(path: Path, latents: Latents, metadata: Mapping[str, str]) -> None:
    """Write a latents file at once.

    Raises:
        StoreError: a value is not finite; nothing is written.
    """
    tensors = {"latents": latents.mean} | ({} if latents.std is None else {"std": latents.std})
    _write(path, tensors, metadata)


def write_conditioning(path: Path, conditioning: Tensor, metadata: Mapping[str, str]) -> None:
    """Write a conditioning file [L, E] at once.

    Raises:
        StoreError: a value is not finite; nothing is written.
    """
    _write(path, {"conditioning": conditioning}, metadata)


def load_latents(store: TensorStore, song: StoredSong) -> Latents:
    """Return a song's latents on the CPU, in the dtype they are stored in.

    Raises:
        StoreError: the file is missing, damaged, of another length than the index says, or not finite.
    """
    path = store.latents_file(song)
    if store.kind == "pt":
        return Latents(_checked(legacy.read_latents(path), path, song.frames))
    tensors = read_tensors(path)
    if "latents" not in tensors:
        raise StoreError(f"'{path}' holds no latents")
    std = tensors.get("std")
    return Latents(
        _checked(tensors["latents"], path, song.frames), None if std is None else _checked(std, path, song.frames)
    )


def load_conditioning(store: TensorStore, song: StoredSong) -> Tensor:
    """Return a song's conditioning [L, E] on the CPU, in the dtype it is stored in.

    Raises:
        StoreError: as `load_latents`.
    """
    path = store.conditioning_file(song)
    if store.kind == "pt":
        return _checked(legacy.read_conditioning(path), path, song.rows)
    tensors = read_tensors(path)
    if "conditioning" not in tensors:
        raise StoreError(f"'{path}' holds no conditioning")
    return _checked(tensors["conditioning"], path, song.rows)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        # read, not mapped: what is trained on must not change or vanish with the file
        return dict(safetensors.torch.load(path.read_bytes()))
    except FileNotFoundError as error:
        raise StoreError(f"'{path}' is missing; run 'sidestep preprocess' again") from error
    except (SafetensorError, OSError) as error:
        raise StoreError(f"'{path}' is damaged ({error}); delete it and run 'sidestep preprocess' again") from error


def read_metadata(path: Path) -> dict[str, str] | None:
    """Return the header's metadata, or None when there is no such file or it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (FileNotFoundError, SafetensorError):
        return None


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise StoreError(f"the {name} of this song would not be finite")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, tensor_bytes(tensors, {"format": str(FORMAT), **metadata}))


def _checked(tensor: Tensor, path: Path, length: int) -> Tensor:
    if tensor.ndim != 2 or not tensor.numel() or (length and len(tensor) != length):
        expected = f"[{length or 'some'}, channels]"
        raise StoreError(f"'{path}' holds a tensor of shape {list(tensor.shape)} where {expected} is expected")
    if not torch.isfinite(tensor).all():
        raise StoreError(f"'{path}' holds values that are not finite; delete it and run 'sidestep preprocess' again")
    return tensor
