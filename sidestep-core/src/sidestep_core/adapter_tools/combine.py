"""Several adapters as one plain LoRA, or one adapter with another rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import torch

from sidestep_core.errors import AdapterError
from sidestep_core.formats.keys import CONVOLUTIONS, layer_order
from sidestep_core.formats.principal import approximate
from sidestep_core.formats.reading import Weights, read_update
from sidestep_core.formats.saved import SavedAdapter
from sidestep_core.formats.updates import LowRank, Update

USUAL_RANK = 64
_SHARED = ("base_model", "base_variant", "base_identity", "conditioning", "timesteps", "shift")


@attrs.frozen(kw_only=True)
class PlainLora:
    """A LoRA that was made of something else.

    Attributes:
        updates: its modules, in layer order, scale folded in.
        losses: relative error of each module, 0 where it is exact.
        metadata: what its file says about itself.
    """

    updates: tuple[LowRank, ...]
    losses: Mapping[str, float]
    metadata: Mapping[str, str]


def combine(parts: Sequence[tuple[SavedAdapter, float]], *, rank: int | None, base: Weights | None) -> PlainLora:
    """Return the weighted sum of adapters.

    Plain LoRAs add up exactly, to the sum of their ranks; everything else is approximated.

    Args:
        parts: adapters with their weights.
        rank: largest rank of the result; None keeps what is exact, and is the usual rank for the rest.
        base: the model's weights, for adapters that depend on them.

    Raises:
        AdapterError: adapters are damaged, do not go together, or depend on weights that are not there.
    """
    there = [(saved, weight, saved.modules()) for saved, weight in parts if weight != 0]
    names = sorted({name for _, _, modules in there for name in modules}, key=layer_order)
    if odd := sorted(CONVOLUTIONS & set(names)):
        raise AdapterError(f"a plain LoRA has no form for {odd[0]!r}, a convolution")
    if not names:
        raise AdapterError("nothing is left: every weight is 0")
    updates, losses = [], {}
    for name in names:
        summands = [
            (read_update(saved, name, modules[name]), weight) for saved, weight, modules in there if name in modules
        ]
        update, losses[name] = _sum(name, summands, rank, base)
        updates.append(update)
    return PlainLora(updates=tuple(updates), losses=losses, metadata=_metadata(parts, updates))


def resize(saved: SavedAdapter, rank: int, base: Weights | None) -> PlainLora:
    """Return an adapter as LoRA of at most a rank.

    Raises:
        AdapterError: it is damaged, or depends on weights that are not there.
    """
    return combine([(saved, 1.0)], rank=rank, base=base)


def _sum(
    name: str, summands: Sequence[tuple[Update, float]], rank: int | None, base: Weights | None
) -> tuple[LowRank, float]:
    shapes = {(u.out_features, u.in_features) for u, _ in summands if u.out_features is not None}
    if len(shapes) > 1:
        raise AdapterError(f"the adapters are of different models: {name!r} is {' and '.join(map(str, shapes))}")
    low = [(update.folded(torch.float32), weight) for update, weight in summands if isinstance(update, LowRank)]
    if len(low) == len(summands) and (rank is None or sum(update.rank for update, _ in low) <= rank):
        down = torch.cat([update.down for update, _ in low])
        up = torch.cat([update.up * weight for update, weight in low], dim=1)
        return LowRank(name=name, down=down, up=up), 0.0
    if base is None and any(update.needs_weight for update, _ in summands):
        raise AdapterError(f"{name!r} depends on the weights of the model: give --checkpoint-dir and --model")
    weight_of = base.weight(name) if base is not None and any(u.needs_weight for u, _ in summands) else None
    total = sum((update.delta(weight_of) * weight for update, weight in summands), start=torch.zeros(()))
    return approximate(name, total, rank or USUAL_RANK)


def _metadata(parts: Sequence[tuple[SavedAdapter, float]], updates: Sequence[LowRank]) -> dict[str, str]:
    """Return what all adapters say alike, and what the result is made of."""
    shared = {key: {saved.metadata.get(key, "") for saved, _ in parts} for key in _SHARED}
    ranks = sorted({update.rank for update in updates})
    found = {
        "adapter_type": "lora",
        "rank": " to ".join(map(str, dict.fromkeys((ranks[0], ranks[-1])))),
        "made_from": ", ".join(f"{saved.metadata.get('run', saved.weights.stem)} x {w:g}" for saved, w in parts),
        "trigger_tag": ", ".join(dict.fromkeys(_each(parts, "trigger_tag"))),
        "run": ", ".join(dict.fromkeys(_each(parts, "run"))),
        **{key: values.pop() for key, values in shared.items() if len(values) == 1},
    }
    return {key: value for key, value in found.items() if value}


def _each(parts: Sequence[tuple[SavedAdapter, float]], key: str) -> Iterator[str]:
    for saved, _ in parts:
        yield from filter(None, saved.metadata.get(key, "").split(", "))
