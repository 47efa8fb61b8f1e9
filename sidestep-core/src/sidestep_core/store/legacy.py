"""`.pt` files in the layout of Side-Step and ACE-Step: read as they are, and written for those programs.

Such files hold the padding their encoders added, marked by `encoder_attention_mask`; the model would attend to it,
since its decoder takes no mask, and never sees it when it generates. It is dropped here when they are read.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from sidestep_core.errors import StoreError
from sidestep_core.files import write_atomic
from sidestep_core.store.index import StoredSong, TensorStore

FRAMES_PER_SECOND = 25


def read_latents(path: Path) -> Tensor:
    """Return the latents [T, 64] of a `.pt` file, without padding.

    Raises:
        StoreError: the file is missing, damaged or something else.
    """
    return _unpadded(_read(path), "target_latents", "attention_mask", path)


def read_conditioning(path: Path) -> Tensor:
    """Return the conditioning [L, E] of a `.pt` file, without padding.

    Raises:
        StoreError: as `read_latents`.
    """
    return _unpadded(_read(path), "encoder_hidden_states", "encoder_attention_mask", path)


def measure(store: TensorStore) -> TensorStore:
    """Return the store with the lengths of its songs: a `.pt` set has to open each file for them, others know.

    Raises:
        StoreError: as `read_latents`.
    """
    if store.kind != "pt":
        return store
    return attrs.evolve(store, songs=tuple(_measured(store, song) for song in store.songs))


def read_keys(path: Path) -> tuple[str, str] | None:
    """Return the keys of latents and conditioning that `write_pt` put into a file; None when there are none."""
    try:
        keys = _read(path)["metadata"]["keys"]
        return keys["latents"], keys["conditioning"]
    except (StoreError, KeyError, TypeError):
        return None


def write_pt(path: Path, latents: Tensor, conditioning: Tensor, silence: Tensor, metadata: Mapping[str, Any]) -> None:
    """Write one song at once.

    Args:
        path: file to write.
        latents: [T, 64].
        conditioning: [L, E], unpadded.
        silence: [frames, 64], the checkpoint's silence latent; repeated where it is shorter than T.
        metadata: plain values.
    """
    frames = len(latents)
    source = silence.to(latents.dtype).repeat(-(-frames // len(silence)), 1)[:frames]
    content = {
        "target_latents": latents,
        "attention_mask": latents.new_ones(frames),
        "encoder_hidden_states": conditioning,
        "encoder_attention_mask": conditioning.new_ones(len(conditioning)),
        "context_latents": torch.cat([source, torch.ones_like(source)], dim=-1),  # [T, 128]
        "metadata": dict(metadata),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def _read(path: Path) -> dict[str, Any]:
    try:
        # mapped: what is not used is not read
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise StoreError(f"'{path}' is missing") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(f"'{path}' is not a whole .pt file of tensors ({reason})") from error
    if not isinstance(content, dict):
        raise StoreError(f"'{path}' holds a {type(content).__name__} instead of named tensors")
    return content


def _unpadded(content: Mapping[str, Any], name: str, mask_name: str, path: Path) -> Tensor:
    tensor, mask = content.get(name), content.get(mask_name)
    if not isinstance(tensor, Tensor):
        raise StoreError(f"'{path}' has no {name}; there is {', '.join(map(str, content)) or 'nothing'}")
    if mask is None:
        return tensor.clone()
    if not isinstance(mask, Tensor) or mask.shape != tensor.shape[:1]:
        raise StoreError(f"'{path}': {mask_name} does not fit {name} of shape {list(tensor.shape)}")
    return tensor[mask > 0]


def _measured(store: TensorStore, song: StoredSong) -> StoredSong:
    content = _read(store.latents_file(song))
    path = store.latents_file(song)
    frames = len(_unpadded(content, "target_latents", "attention_mask", path))
    rows = len(_unpadded(content, "encoder_hidden_states", "encoder_attention_mask", path))
    metadata = content.get("metadata")
    repeat = metadata.get("repeat") if isinstance(metadata, dict) else None
    return attrs.evolve(
        song,
        frames=frames,
        rows=rows,
        seconds=frames / FRAMES_PER_SECOND,
        repeat=repeat if isinstance(repeat, int) and repeat > 0 else 1,
    )
