"""Updates from saved adapters, one module at a time, whatever program wrote the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidestep_core.errors import AdapterError
from sidestep_core.formats.saved import CONFIG_NAME, Parts, SavedAdapter
from sidestep_core.formats.settings import check_config, low_rank_scale, number
from sidestep_core.formats.updates import Full, Hadamard, Kronecker, LowRank, Update
from sidestep_core.formats.weight_updates import Decomposed, Rotation, block_size

# elements of a weight; no model comes near it, and a hostile file's small factors could make any size
_LARGEST = 1 << 28
_TERMS = 64


class Weights(Protocol):
    """Where base weights come from."""

    def weight(self, name: str) -> Tensor:
        """Return the weight of a module by its original name, float32 [out, in]."""


def read_updates(saved: SavedAdapter) -> Iterator[Update]:
    """Yield the update of every adapted module in layer order, read one at a time.

    Raises:
        AdapterError: tensors are missing, strange or not finite, or settings and tensors do not go together.
    """
    return (read_update(saved, name, parts) for name, parts in saved.modules().items())


def read_update(saved: SavedAdapter, name: str, parts: Parts) -> Update:
    """Return the update of one module.

    Args:
        saved: the adapter.
        name: the module, as `saved.modules` names it.
        parts: its tensors, from there too.

    Raises:
        AdapterError: as `read_updates`.
    """
    kind = saved.kind(name, parts)
    check_config(saved, kind)
    read = _Reader(saved, name, parts)
    inner = {"lora": _low_rank, "dora": _low_rank, "lokr": _kronecker, "loha": _hadamard, "oft": _rotation}
    update = _full(read) if kind == "full" else inner[kind](read)
    if "magnitude" in parts:
        update = _decomposed(read, update)
    read.finish()
    if (update.out_features or update.in_features) * update.in_features > _LARGEST:
        raise read.fails(f"{name!r} is larger than any model's")
    return update


def deltas(saved: SavedAdapter, base: Weights | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield `(module name, weight difference [out, in])` of every adapted module in layer order.

    Args:
        saved: the adapter.
        base: the model's weights, for adapters that depend on them.

    Raises:
        AdapterError: as `read_updates`, or the weights are needed.
    """
    for update in read_updates(saved):
        if update.needs_weight and base is None:
            raise AdapterError(f"{saved.folder} holds {update.kind}, which means nothing without the model's weights")
        yield update.name, update.delta(base.weight(update.name) if update.needs_weight and base else None)


class _Reader:
    """The tensors of one module, each taken once."""

    def __init__(self, saved: SavedAdapter, name: str, parts: Parts) -> None:
        self.saved, self.name = saved, name
        self._left = dict(parts)

    def fails(self, what: str) -> AdapterError:
        return AdapterError(f"{self.saved.weights}: {what}")

    def has(self, part: str) -> bool:
        return part in self._left

    def shape(self, part: str) -> tuple[int, ...]:
        return self._left[part].shape

    def take(self, part: str, dimensions: int | None = 2) -> Tensor:
        """Return a tensor, of so many dimensions, or flattened to [first, rest] where None."""
        info = self._left.pop(part, None)
        if info is None:
            raise self.fails(f"{part!r} of {self.name!r} is missing")
        if 0 in info.shape or (len(info.shape) != dimensions if dimensions is not None else len(info.shape) < 2):
            raise self.fails(f"{info.key!r} has the shape {info.shape}")
        try:
            # opened anew for each tensor: an open file's pages would all count as memory of the process
            with safe_open(info.file, framework="pt") as file:
                tensor: Tensor = file.get_tensor(info.key).clone()
        except (SafetensorError, OSError) as error:
            raise self.fails(f"it is not a readable safetensors file: {error}") from error
        if not tensor.isfinite().all():
            raise self.fails(f"the weights of {self.name!r} are not all finite numbers")
        return tensor.flatten(1) if dimensions is None else tensor

    def alpha(self) -> float | None:
        """Return the module's own alpha, if it has one."""
        if not self.has("alpha"):
            return None
        shape = self.shape("alpha")
        value = float(self.take("alpha", len(shape)).flatten()[0]) if shape in ((), (1,)) else 0.0
        if value <= 0:
            raise self.fails(f"alpha of {self.name!r} must be one number above 0")
        return value

    def product(self, left: Tensor, right: Tensor) -> None:
        if left.shape[1] != right.shape[0]:
            shapes = f"{tuple(right.shape)} and {tuple(left.shape)}"
            raise self.fails(f"the shapes {shapes} of {self.name!r} do not make a product")

    def finish(self) -> None:
        if self._left:
            raise self.fails(f"{next(iter(self._left.values())).key!r} has no place in this adapter")


def _low_rank(read: _Reader) -> LowRank:
    down, up = read.take("down"), read.take("up")
    read.product(up, down)
    scale = low_rank_scale(read.saved, read.name, len(down), read.alpha())
    return LowRank(name=read.name, down=down, up=up, scale=scale)


def _hadamard(read: _Reader) -> Hadamard:
    w1_a, w1_b, w2_a, w2_b = (read.take(f"hada_w{i}_{part}") for i in (1, 2) for part in "ab")
    read.product(w1_a, w1_b)
    read.product(w2_a, w2_b)
    if (len(w1_a), w1_b.shape[1], len(w1_b)) != (len(w2_a), w2_b.shape[1], len(w2_b)):
        raise read.fails(f"the two products of {read.name!r} are of different shapes")
    alpha = read.alpha()
    scale = 1.0 if alpha is None else alpha / len(w1_b)
    return Hadamard(name=read.name, w1_a=w1_a, w1_b=w1_b, w2_a=w2_a, w2_b=w2_b, scale=scale)


def _kronecker(read: _Reader) -> Kronecker:
    first, first_b = _factor(read, "lokr_w1")
    second, second_b = _factor(read, "lokr_w2")
    update = Kronecker(name=read.name, first=first, first_b=first_b, second=second, second_b=second_b)
    alpha = read.alpha()
    if first_b is not None and second_b is not None and len(first_b) != len(second_b):
        raise read.fails(f"the factors of {read.name!r} are of different ranks")
    # LyCORIS takes the scale for 1 where both factors are whole, whatever alpha says
    scale = 1.0 if alpha is None or update.rank is None else alpha / update.rank
    return Kronecker(name=read.name, first=first, first_b=first_b, second=second, second_b=second_b, scale=scale)


def _factor(read: _Reader, name: str) -> tuple[Tensor, Tensor | None]:
    if read.has(name):
        return read.take(name, None), None
    left, right = read.take(f"{name}_a"), read.take(f"{name}_b")
    read.product(left, right)
    return left, right


def _full(read: _Reader) -> Full:
    return Full(name=read.name, difference=read.take("difference", None))


def _rotation(read: _Reader) -> Rotation:
    generators, config = read.take("generators"), read.saved.config
    if not block_size(generators.shape[1]):
        raise read.fails(f"{generators.shape[1]} generators of {read.name!r} make no block")
    where = str(read.saved.folder / CONFIG_NAME)
    if config.get("coft"):
        generators = _bounded(generators, number(config, "eps", where))
    exact = not config.get("use_cayley_neumann", True)
    terms = None if exact else int(number(config, "num_cayley_neumann_terms", where, 5))
    if terms is not None and not 1 <= terms <= _TERMS:
        raise read.fails(f"num_cayley_neumann_terms must be 1 to {_TERMS}, not {terms}")
    return Rotation(name=read.name, generators=generators, terms=terms)


def _bounded(generators: Tensor, eps: float) -> Tensor:
    """Return generators as COFT keeps them: no matrix has a norm above eps / sqrt(blocks)."""
    limit = eps / len(generators) ** 0.5
    norms = generators.float().norm(dim=1, keepdim=True) * 2**0.5  # each element stands in the matrix twice
    bounded: Tensor = generators.float() * (limit / norms.clamp_min(limit or 1.0))
    return bounded.to(generators.dtype)


def _decomposed(read: _Reader, inner: Update) -> Decomposed:
    # PEFT writes [out], LyCORIS [out, 1]
    magnitude = read.take("magnitude", 1 if len(read.shape("magnitude")) == 1 else 2)
    if magnitude.ndim == 2 and magnitude.shape[1] == 1:
        magnitude = magnitude[:, 0]
    if magnitude.ndim != 1 or len(magnitude) != inner.out_features:
        raise read.fails(f"the magnitudes of {read.name!r} are not one for each output")
    return Decomposed(name=read.name, inner=inner, magnitude=magnitude)
