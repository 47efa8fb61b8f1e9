"""How LyCORIS's factors are called in files, and the one alpha that all readers understand alike."""

from __future__ import annotations

import torch
from torch import Tensor

from sidestep_core.formats.updates import Hadamard, Kronecker, Update
from sidestep_core.formats.weight_updates import Decomposed


def lycoris_tensors(update: Update) -> dict[str, Tensor]:
    """Return the tensors of a LoKR or LoHA module by LyCORIS's names, alpha and lengths of rows among them.

    alpha and lengths are float32 whatever the type of the factors: rounding one moves a whole row or module.
    """
    inner = update.inner if isinstance(update, Decomposed) else update
    if isinstance(inner, Kronecker):
        tensors, alpha = _kronecker(inner)
    else:
        assert isinstance(inner, Hadamard)
        tensors = {f"hada_{name}": getattr(inner, name) for name in ("w1_a", "w1_b", "w2_a", "w2_b")}
        alpha = inner.scale * inner.rank
    found = {"alpha": torch.tensor(float(alpha)), **tensors}
    return found | {"dora_scale": update.magnitude[:, None]} if isinstance(update, Decomposed) else found


def whole_alpha(first_rows: int, second_rows: int) -> int:
    """Return the alpha of a LoKR module whose factors are both whole.

    LyCORIS takes the scale for 1 and does not look at it, nor did ComfyUI; later versions of that divide it by the
    ratio of the factors' rows, rounded down.
    """
    return max(1, second_rows // first_rows)


def _kronecker(update: Kronecker) -> tuple[dict[str, Tensor], float]:
    tensors: dict[str, Tensor] = {}
    factors = (("lokr_w1", update.first, update.first_b), ("lokr_w2", update.second, update.second_b))
    for name, left, right in factors:
        tensors |= {name: left} if right is None else {f"{name}_a": left, f"{name}_b": right}
    if update.rank is None:
        return tensors, whole_alpha(len(update.first), len(update.second))
    return tensors, update.scale * update.rank
