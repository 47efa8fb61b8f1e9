"""How large an adapter's updates are, and how far two adapters are from each other."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from sidestep_core.errors import AdapterError
from sidestep_core.formats.keys import layer_order
from sidestep_core.formats.reading import Weights, read_update
from sidestep_core.formats.saved import SavedAdapter


@attrs.frozen(kw_only=True)
class Pair:
    """One module in two adapters.

    Attributes:
        first: Frobenius norm of the first adapter's update, 0 where it has none.
        second: the same of the second's.
        apart: norm of the difference as a share of the larger one.
        cosine: how much they point the same way, 1 the same, -1 the opposite; 0 where one is absent.
    """

    first: float
    second: float
    apart: float
    cosine: float


def norms(saved: SavedAdapter, base: Weights | None, *, relative: bool = False) -> dict[str, float]:
    """Return the Frobenius norm of each module's update.

    Args:
        saved: the adapter.
        base: the model's weights, for adapters that depend on them.
        relative: as a share of the norm of the weight, which needs `base`.

    Raises:
        AdapterError: it is damaged, or depends on weights that are not there.
    """
    found = {}
    for name in saved.modules():
        size = float(_delta(saved, name, base).norm())
        found[name] = size / float(base.weight(name).norm()) if relative and base is not None else size
    return found


def compare(first: SavedAdapter, second: SavedAdapter, base: Weights | None) -> Mapping[str, Pair]:
    """Return how far the updates of two adapters are apart, module by module in layer order.

    Raises:
        AdapterError: one is damaged, depends on weights that are not there, or they are of different models.
    """
    names = (first.modules().keys(), second.modules().keys())
    pairs = {}
    for name in sorted(names[0] | names[1], key=layer_order):
        left, right = (
            _delta(saved, name, base) if name in own else None
            for saved, own in zip((first, second), names, strict=True)
        )
        pairs[name] = _pair(name, left, right)
    return pairs


def _pair(name: str, left: Tensor | None, right: Tensor | None) -> Pair:
    sizes = [0.0 if delta is None else float(delta.norm()) for delta in (left, right)]
    if left is None or right is None:
        return Pair(first=sizes[0], second=sizes[1], apart=1.0 if max(sizes) else 0.0, cosine=0.0)
    if left.shape != right.shape:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise AdapterError(f"the adapters are of different models: {name!r} is {shapes}")
    apart, product = float((left - right).norm()), sizes[0] * sizes[1]
    cosine = float((left * right).sum()) / product if product else 0.0
    return Pair(first=sizes[0], second=sizes[1], apart=apart / max(sizes) if max(sizes) else 0.0, cosine=cosine)


def _delta(saved: SavedAdapter, name: str, base: Weights | None) -> Tensor:
    update = read_update(saved, name, saved.modules()[name])
    if not update.needs_weight:
        return update.delta()
    if base is None:
        raise AdapterError(
            f"{update.kind} in {saved.weights} depends on the weights of the model: give --checkpoint-dir and --model"
        )
    return update.delta(base.weight(name))
