"""One source of all randomness: a seed for each purpose and place of a run, so that no state is stored. Light."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """Return a number in [0, 2^63) that depends on all parts and on nothing else, on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uniform(*parts: int | str) -> float:
    """Return a number in [0, 1) drawn for the parts."""
    return (seed_of(*parts) >> 10) / 2**53


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """Return a generator on a device, seeded for the parts."""
    import torch

    return torch.Generator(device).manual_seed(seed_of(*parts))
