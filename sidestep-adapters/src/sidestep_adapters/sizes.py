"""Shapes, scales and parameter counts of the adapter types, without torch: plans are made from these."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, isqrt, log2
from typing import Protocol

import attrs
from sidestep_core.targets import Target

from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig


class Scaled(Protocol):
    """Settings with a rank and an alpha."""

    @property
    def rank(self) -> int:
        """Rank of a projection that has none of its own."""

    @property
    def alpha(self) -> int:
        """Alpha that goes with it."""


def rank_and_alpha(config: Scaled, target: Target) -> tuple[int, float]:
    """Return what one projection gets; a rank of its own keeps the ratio of alpha to rank unless it has an alpha."""
    rank = target.rank or config.rank
    return rank, config.alpha * rank / config.rank if target.alpha is None else target.alpha


def factors(size: int, factor: int) -> tuple[int, int]:
    """Return two factors of a size, the smaller one first, as LyCORIS chooses them.

    Args:
        size: what is split.
        factor: wanted size of one of them: that very number if it divides `size`, else the largest divisor below it;
            -1 for the pair nearest to each other.
    """
    if factor > 0 and size % factor == 0:
        small = min(factor, size // factor)
    else:
        limit = isqrt(size) if factor < 0 else min(factor, isqrt(size))
        small = next(divisor for divisor in range(limit, 0, -1) if size % divisor == 0)
    return small, size // small


@attrs.frozen(kw_only=True)
class LokrShape:
    """How LoKR splits one weight: `kron(first, second)`.

    Attributes:
        first: shape of the first factor.
        second: shape of the second factor.
        split_first: whether the first is itself a product of two matrices of the rank's width.
        split_second: the same of the second.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    split_first: bool
    split_second: bool

    @property
    def whole(self) -> bool:
        """Whether neither is split; alpha does not count then."""
        return not (self.split_first or self.split_second)


def lokr_shape(config: LokrConfig, out_features: int, in_features: int, rank: int) -> LokrShape:
    """Return the factors of one projection."""
    rows, columns = factors(out_features, config.factor), factors(in_features, config.factor)
    if config.unbalanced_factorization:
        rows = rows[::-1]
    first, second = (rows[0], columns[0]), (rows[1], columns[1])
    return LokrShape(
        first=first,
        second=second,
        split_first=config.decompose_both and not config.full_matrix and 2 * rank < max(first),
        split_second=not config.full_matrix and 2 * rank < max(second),
    )


def block_size(config: OftConfig, in_features: int, own: int | None) -> int:
    """Return the divisor of `in_features` nearest to the wanted block size; the smaller of two equally near."""
    wanted = own or config.block_size
    divisors = (size for size in range(2, in_features + 1) if in_features % size == 0)
    return min(divisors, key=lambda size: (abs(size - wanted), size))


def mapped_blocks(config: OftConfig, targets: Sequence[Target]) -> Sequence[Target]:
    """Return targets with block sizes for the ranks of a rank map: the nearest powers of two, without an alpha.

    A file holds blocks of one size only, so all must divide each other and every projection's inputs.
    """
    common = gcd(*(target.in_features for target in targets))
    largest = common & -common  # the largest power of two that divides it

    def block(rank: int) -> int:
        return min(max(2, 1 << round(log2(rank))), largest)

    return [attrs.evolve(target, rank=block(target.rank or config.block_size), alpha=None) for target in targets]


def count_lora(config: LoraConfig, out_features: int, in_features: int, rank: int | None) -> int:
    """Return the trainable parameters of one projection; `rank` is its own where it differs from the adapter's."""
    return (rank or config.rank) * (out_features + in_features)


def count_dora(config: DoraConfig, out_features: int, in_features: int, rank: int | None) -> int:
    """Return the trainable parameters of one projection: those of LoRA and a magnitude for each output."""
    return (rank or config.rank) * (out_features + in_features) + out_features


def count_lokr(config: LokrConfig, out_features: int, in_features: int, rank: int | None) -> int:
    """Return the trainable parameters of one projection: two factors, whole or split."""
    width = rank or config.rank
    shape = lokr_shape(config, out_features, in_features, width)
    halves = ((shape.first, shape.split_first), (shape.second, shape.split_second))
    count = sum(width * (rows + columns) if split else rows * columns for (rows, columns), split in halves)
    return count + config.use_scalar + config.weight_decompose * out_features


def count_loha(config: LohaConfig, out_features: int, in_features: int, rank: int | None) -> int:
    """Return the trainable parameters of one projection: two low-rank products."""
    return 2 * (rank or config.rank) * (out_features + in_features) + config.use_scalar


def count_oft(config: OftConfig, out_features: int, in_features: int, rank: int | None) -> int:
    """Return the trainable parameters of one projection: an angle for each pair of inputs of a block."""
    return in_features * (block_size(config, in_features, rank) - 1) // 2
