"""The update of one module in each form that adapters have, rebuilt as the difference it makes to the weight.

Sums are taken in float32, or in float64 where the tensors are float64. Weights of more than two dimensions are seen as
[out, everything else].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import attrs
import torch
from torch import Tensor

U = TypeVar("U", bound="Update")


@attrs.frozen(kw_only=True, eq=False)
class Update:
    """What an adapter does to one module; the forms are subclasses, their tensors are fields.

    Attributes:
        name: original ACE-Step path below the decoder, `layers.0.self_attn.q_proj`.
    """

    kind: ClassVar[str]

    name: str

    @property
    def out_features(self) -> int | None:
        """Rows of the weight; None where the update does not tell."""
        raise NotImplementedError

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        raise NotImplementedError

    @property
    def needs_weight(self) -> bool:
        """Whether the difference depends on the weight."""
        return False

    @property
    def rank(self) -> int | None:
        """Width of its low-rank factors; None without any."""
        return None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the stored factors."""
        return next(value.dtype for value in attrs.asdict(self, recurse=False).values() if isinstance(value, Tensor))

    @property
    def row_step(self) -> int:
        """Number of rows of which `rows` takes multiples."""
        return 1

    def rows(self: U, start: int, stop: int) -> U:
        """Return the update of some rows of the weight alone; both ends are multiples of `row_step`, or the last."""
        raise NotImplementedError

    def map(self: U, change: Callable[[Tensor], Tensor]) -> U:
        """Return the same update with every tensor changed."""
        fields = attrs.asdict(self, recurse=False)
        changed: dict[str, Any] = {k: change(v) for k, v in fields.items() if isinstance(v, Tensor)}
        return attrs.evolve(self, **changed)

    def to(self: U, dtype: torch.dtype | None) -> U:
        """Return the same update in another type; None keeps it."""
        return self if dtype is None else self.map(lambda tensor: tensor.to(dtype))

    def folded(self: U, dtype: torch.dtype | None = None) -> U:
        """Return the same update as files have it: without a scale outside its tensors where that can be.

        Args:
            dtype: type of the tensors; None keeps it.
        """
        return self.to(dtype)

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in].

        Args:
            weight: the weight [out, in], where `needs_weight`.
        """
        raise NotImplementedError

    def spread(self, dtype: torch.dtype | None, weight: Tensor | None = None) -> Tensor:
        """Return by how much each element of the difference may move when the tensors are rounded, float64 [out, in].

        Args:
            dtype: what they are rounded to; None is each tensor's own type, for what was computed anew.
            weight: as for `delta`.
        """
        return self._growth(lambda tensor: widened(tensor, dtype or tensor.dtype)) - self._growth(_size)

    def _growth(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        # a sum of products: with sizes in place of the numbers it bounds any change of them
        return self.map(change).delta().abs()


def widened(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest sizes that numbers may have once rounded to a type, float64.

    A float32 rounding is added for the product with a scale that comes before it.
    """
    limits = torch.finfo(dtype)
    relative = limits.eps / 2 + torch.finfo(torch.float32).eps
    return _size(tensor) * (1 + relative) + limits.smallest_normal * limits.eps


def _size(tensor: Tensor) -> Tensor:
    return tensor.double().abs()


def wide(tensor: Tensor) -> Tensor:
    """Return numbers in the type that sums are taken in: float64 as they are, all others in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@attrs.frozen(kw_only=True, eq=False)
class LowRank(Update):
    """`scale * up @ down` is added to the weight.

    Attributes:
        down: `lora_A` [rank, in].
        up: `lora_B` [out, rank].
        scale: factor on the product (alpha / rank, or alpha / sqrt(rank)).
    """

    kind = "lora"

    down: Tensor
    up: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Width of the two matrices."""
        return self.down.shape[0]

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self.up.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self.down.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the projection."""
        return self.out_features, self.in_features

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in]."""
        return wide(self.up) @ wide(self.down) * self.scale

    def rows(self, start: int, stop: int) -> LowRank:
        """Return the update of some rows of the weight alone."""
        return attrs.evolve(self, up=self.up[start:stop])

    def folded(self, dtype: torch.dtype | None = None) -> LowRank:
        """Return the same update with the scale inside `up`, rounded once."""
        up = (wide(self.up) * self.scale).to(dtype or self.up.dtype)
        return LowRank(name=self.name, down=self.down.to(dtype or self.down.dtype), up=up)


@attrs.frozen(kw_only=True, eq=False)
class Hadamard(Update):
    """LoHA: `scale * (w1_a @ w1_b) * (w2_a @ w2_b)`, the middle product element by element.

    Attributes:
        w1_a, w2_a: [out, rank].
        w1_b, w2_b: [rank, in].
        scale: alpha / rank.
    """

    kind = "loha"

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Width of the products."""
        return self.w1_b.shape[0]

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self.w1_a.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self.w1_b.shape[1]

    def rows(self, start: int, stop: int) -> Hadamard:
        """Return the update of some rows of the weight alone."""
        return attrs.evolve(self, w1_a=self.w1_a[start:stop], w2_a=self.w2_a[start:stop])

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in]."""
        return (wide(self.w1_a) @ wide(self.w1_b)) * (wide(self.w2_a) @ wide(self.w2_b)) * self.scale


@attrs.frozen(kw_only=True, eq=False)
class Kronecker(Update):
    """LoKR: `scale * kron(first, second)`; each factor is whole, or a product of two matrices.

    Attributes:
        first, first_b: the first factor, or the two whose product it is.
        second, second_b: likewise; a kernel's further dimensions are flattened.
        scale: alpha / rank; 1 where both are whole.
    """

    kind = "lokr"

    first: Tensor
    second: Tensor
    first_b: Tensor | None = None
    second_b: Tensor | None = None
    scale: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether neither factor is a product."""
        return self.first_b is None and self.second_b is None

    @property
    def rank(self) -> int | None:
        """Width of a factor that is a product."""
        split = self.first_b if self.second_b is None else self.second_b
        return None if split is None else split.shape[0]

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self.first.shape[0] * self.second.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        first, second = (a if b is None else b for a, b in ((self.first, self.first_b), (self.second, self.second_b)))
        return first.shape[1] * second.shape[1]

    @property
    def row_step(self) -> int:
        """Rows of the second factor."""
        return len(self.second)

    def rows(self, start: int, stop: int) -> Kronecker:
        """Return the update of some rows of the weight alone."""
        return attrs.evolve(self, first=self.first[start // self.row_step : -(-stop // self.row_step)])

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in]."""
        first = wide(self.first) if self.first_b is None else wide(self.first) @ wide(self.first_b)
        second = wide(self.second) if self.second_b is None else wide(self.second) @ wide(self.second_b)
        return torch.kron(first, second) * self.scale


@attrs.frozen(kw_only=True, eq=False)
class Full(Update):
    """The difference itself.

    Attributes:
        difference: [out, in].
    """

    kind = "full"

    difference: Tensor

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self.difference.shape[0]

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self.difference.shape[1]

    def rows(self, start: int, stop: int) -> Full:
        """Return the update of some rows of the weight alone."""
        return attrs.evolve(self, difference=self.difference[start:stop])

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """Return the weight difference [out, in]."""
        return wide(self.difference)
