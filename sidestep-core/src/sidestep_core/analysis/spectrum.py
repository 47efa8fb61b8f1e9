"""Effective ranks of a model's weights, kept in the user's cache: they do not depend on any song."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sidestep_core.files import write_atomic
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.folder import ModelFolder, part_tensors
from sidestep_core.model.names import module_path
from sidestep_core.model.streaming import Device, read_tensor

ENERGY = 0.95
FORMAT = 1


def effective_rank(weight: Tensor) -> int:
    """Return how many singular values hold 95 % of the energy, which is the sum of their squares; 1 for no energy.

    -1 where the weight has no singular values because it is not finite.
    """
    if not torch.isfinite(weight).all():
        return -1
    wide = weight.double()  # squares have twice the digits
    gram = wide @ wide.T if wide.shape[0] <= wide.shape[1] else wide.T @ wide
    # squares of the singular values, the largest first; rounding may leave some just below zero
    energies = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)
    total = energies.sum()
    if total <= torch.finfo(torch.float32).tiny:
        return 1
    return int((energies.cumsum(0) < ENERGY * total).sum()) + 1


def effective_ranks(model: ModelFolder, device: Device) -> Iterator[tuple[str, int]]:
    """Yield every projection with the effective rank of its weight as it is stored, read one at a time.

    Args:
        model: the model.
        device: where it is worked out; it must know float64.

    Raises:
        CheckpointError: a weight is missing or cannot be read.
    """
    tensors = part_tensors(model, "transformer")
    for name in projection_shapes(model.dims):
        yield name, effective_rank(read_tensor(tensors[f"{module_path(name)}.weight"], device, torch.float32))


def cache_file(folder: Path, identity: str) -> Path:
    """Return where the effective ranks of a model are kept."""
    return folder / f"spectrum-{identity}.json"


def read_cache(file: Path, model: ModelFolder) -> dict[str, int] | None:
    """Return the effective ranks that are kept; None if there are none, or they are not those of the model."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        ranks = dict(data["ranks"])
        names = projection_shapes(model.dims).keys()
        whole = data["format"] == FORMAT and data["energy"] == ENERGY and ranks.keys() == names
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # not there, or not ours: it is made again
    return ranks if whole and all(isinstance(rank, int) for rank in ranks.values()) else None


def write_cache(file: Path, ranks: Mapping[str, int]) -> None:
    """Keep effective ranks, at once or not at all.

    Raises:
        OSError: nothing can be written there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps({"format": FORMAT, "energy": ENERGY, "ranks": ranks}, indent=1))
