"""Updates that depend on the weight: rows of trained length (DoRA and its relatives) and rotated inputs (OFT)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from sidestep_core.formats.updates import Update, wide, widened


@attrs.frozen(kw_only=True, eq=False)
class Decomposed(Update):
    """Another update is added, then each row of the sum is given a trained length.

    Attributes:
        inner: the update inside.
        magnitude: lengths [out]; always kept in float32, since rounding one moves its whole row.
    """

    inner: Update
    magnitude: Tensor

    @property
    def kind(self) -> str:  # type: ignore[override]
        """DoRA around LoRA, else what is inside."""
        return "dora" if self.inner.kind == "lora" else self.inner.kind

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return len(self.magnitude)

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self.inner.in_features

    @property
    def needs_weight(self) -> bool:
        """Always."""
        return True

    @property
    def rank(self) -> int | None:
        """Width of what is inside."""
        return self.inner.rank

    @property
    def dtype(self) -> torch.dtype:
        """Type of what is inside."""
        return self.inner.dtype

    @property
    def row_step(self) -> int:
        """As what is inside."""
        return self.inner.row_step

    def rows(self, start: int, stop: int) -> Decomposed:
        """Return the update of some rows of the weight alone."""
        return attrs.evolve(self, inner=self.inner.rows(start, stop), magnitude=self.magnitude[start:stop])

    def map(self, change: Callable[[Tensor], Tensor]) -> Decomposed:
        """Return the same update with every tensor changed."""
        return Decomposed(name=self.name, inner=self.inner.map(change), magnitude=change(self.magnitude))

    def to(self, dtype: torch.dtype | None) -> Decomposed:
        """Return the same update with what is inside in another type."""
        return attrs.evolve(self, inner=self.inner.to(dtype), magnitude=wide(self.magnitude))

    def folded(self, dtype: torch.dtype | None = None) -> Decomposed:
        """Return the same update with no scale outside the tensors of what is inside, where that can be."""
        return attrs.evolve(self, inner=self.inner.folded(dtype), magnitude=wide(self.magnitude))

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in]."""
        assert weight is not None
        changed = wide(weight) + self.inner.delta()
        difference: Tensor = changed * (wide(self.magnitude) / changed.norm(dim=1))[:, None] - weight
        return difference

    def spread(self, dtype: torch.dtype | None, weight: Tensor | None = None) -> Tensor:
        """Return by how much each element of the difference may move, float64 [out, in]."""
        assert weight is not None
        inner = self.inner.spread(dtype, weight)
        changed = (weight.double() + self.inner.map(torch.Tensor.double).delta()).abs()
        tiny = torch.finfo(torch.float64).tiny
        length, moved = changed.norm(dim=1, keepdim=True).clamp_min(tiny), inner.norm(dim=1, keepdim=True)
        # v + d has a length between |v| - |d| and |v| + |d|; no unit vector moves by more than 2
        turned = ((inner + changed * (moved / length)) / (length - moved).clamp_min(0)).nan_to_num(2, 2).clamp_max(2)
        size = self.magnitude.double().abs()[:, None]
        spread: Tensor = size * turned + (widened(self.magnitude, torch.float32)[:, None] - size) * changed / length
        return spread


@attrs.frozen(kw_only=True, eq=False)
class Rotation(Update):
    """OFT: the inputs are rotated block by block before the weight sees them.

    Attributes:
        generators: [blocks, size * (size - 1) / 2], upper triangles of skew-symmetric matrices, row by row.
        terms: how many terms of its series PEFT sums for a rotation; None for the exact Cayley transform.
    """

    kind = "oft"

    generators: Tensor
    terms: int | None

    @property
    def block_size(self) -> int:
        """Inputs that are rotated together."""
        return block_size(self.generators.shape[1])

    @property
    def out_features(self) -> None:
        """The file does not tell."""

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return len(self.generators) * self.block_size

    @property
    def needs_weight(self) -> bool:
        """Always."""
        return True

    def rows(self, start: int, stop: int) -> Rotation:
        """Return the update itself: it does the same to every row."""
        return self

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in]."""
        assert weight is not None
        turn = self._turn(self._skew(wide(self.generators), -1))
        return _by_blocks(weight.to(turn.dtype), turn)

    def spread(self, dtype: torch.dtype | None, weight: Tensor | None = None) -> Tensor:
        """Return by how much each element of the difference may move, float64 [out, in]."""
        assert weight is not None
        sizes = self.generators.double().abs()
        grown = widened(self.generators, dtype or self.generators.dtype)
        weight = weight.double().abs()
        if self.terms is not None:
            return _by_blocks(weight, self._turn(self._skew(grown, 1)) - self._turn(self._skew(sizes, 1)))
        # the transform's slope is at most 2 in the norm that a Frobenius norm bounds
        moved = 2 * self._skew(grown - sizes, 1).norm(dim=(1, 2))
        blocks = weight.unflatten(1, (len(moved), -1))
        spread: Tensor = (blocks.norm(dim=2, keepdim=True) * moved[:, None]).expand_as(blocks).flatten(1)
        return spread

    def _skew(self, generators: Tensor, sign: int) -> Tensor:
        """Return matrices [blocks, size, size] from their upper triangles; `sign` is that of the lower ones."""
        size = self.block_size
        rows, columns = torch.triu_indices(size, size, 1)
        matrices = generators.new_zeros(len(generators), size, size)
        matrices[:, rows, columns] = generators
        symmetric: Tensor = matrices + sign * matrices.mT
        return symmetric

    def _turn(self, skew: Tensor) -> Tensor:
        """Return the rotations less one [blocks, size, size]."""
        if self.terms is None:
            one = torch.eye(self.block_size, dtype=skew.dtype)
            turn: Tensor = torch.linalg.solve(one + skew, -2 * skew, left=False)
            return turn
        total, power = torch.zeros_like(skew), skew
        for i, factor in enumerate(_series(self.terms)):
            power = skew if i == 0 else power @ skew
            total += factor * power
        return total


def block_size(elements: int) -> int:
    """Return the size of a block whose upper triangle has so many elements; 0 when none has."""
    size = round((1 + (1 + 8 * elements) ** 0.5) / 2)
    return size if elements > 0 and size * (size - 1) // 2 == elements else 0


def _series(terms: int) -> Sequence[int]:
    """Return PEFT's factors of the powers of a generator from the first on, without the leading one."""
    if terms < 2:
        return ()
    return (2,) if terms == 2 else (2, 2, *[2] * max(0, terms - 4), 1)


def _by_blocks(weight: Tensor, turns: Tensor) -> Tensor:
    """Return `weight @ turn.T` for turns on the diagonal."""
    blocks = weight.unflatten(1, (len(turns), -1))
    return torch.einsum("obi,bji->obj", blocks, turns).flatten(1)
