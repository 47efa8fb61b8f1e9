"""A plain LoRA from two models: what makes the one the other."""

from __future__ import annotations

import attrs

from sidestep_core.adapter_tools.combine import PlainLora
from sidestep_core.errors import AdapterError
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.principal import approximate
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.layout import identity


@attrs.frozen(kw_only=True)
class Extracted:
    """What two models differ in.

    Attributes:
        lora: the differences of their projections.
        left_out: other weights of the decoder that differ, which no LoRA holds.
    """

    lora: PlainLora
    left_out: tuple[str, ...]


def extract(before: ModelFolder, after: ModelFolder, rank: int) -> Extracted:
    """Return the LoRA of a rank that best makes one model another.

    Raises:
        AdapterError: they are of different sizes, or do not differ in any projection.
        CheckpointError: weights cannot be read.
    """
    base, tuned = BaseWeights(before), BaseWeights(after)
    if base.shapes() != tuned.shapes():
        raise AdapterError(f"{before.name!r} and {after.name!r} are not of one size")
    updates, losses, left_out = [], {}, []
    projections = projection_shapes(before.dims)
    for name in base.tensors:
        difference = tuned.weight(name) - base.weight(name)
        if not difference.any():
            continue
        if name not in projections:
            left_out.append(name)
            continue
        update, losses[name] = approximate(name, difference, rank)
        updates.append(update)
    if not updates:
        raise AdapterError(f"{before.name!r} and {after.name!r} do not differ in any projection")
    metadata = {
        "adapter_type": "lora",
        "rank": str(rank),
        "made_from": f"{after.name} less {before.name}",
        "base_model": before.name,
        "base_variant": before.variant,
        "base_identity": identity(before),
    }
    lora = PlainLora(updates=tuple(updates), losses=losses, metadata=metadata)
    return Extracted(lora=lora, left_out=tuple(left_out))
