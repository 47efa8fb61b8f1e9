"""The tensors of a module as files outside PEFT's folders have them, and strings for every file's header."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from sidestep_core.formats.lycoris import lycoris_tensors
from sidestep_core.formats.updates import Full, LowRank, Update
from sidestep_core.model.layout import identity
from torch import Tensor

from sidestep_exporters.source import Source

# what a writer says itself, and what other libraries wrote for their own readers
_OWN = ("format", "algo", "lora_adapter_metadata", "lokr_config", "loha_config")


def module_tensors(update: Update) -> dict[str, Tensor]:
    """Return the tensors of a folded module by the names that LyCORIS, kohya's scripts and ComfyUI have for them.

    The alpha of LoRA is its rank: who does not look at it reads the same.
    """
    if isinstance(update, LowRank):
        return {
            "lora_down.weight": update.down,
            "lora_up.weight": update.up,
            "alpha": torch.tensor(float(update.rank)),
        }
    if isinstance(update, Full):
        return {"diff": update.difference}
    return lycoris_tensors(update)


def header(source: Source, target: str, updates: Iterable[Update]) -> dict[str, str]:
    """Return what an exported file says about itself: all that the adapter says, and how it was exported.

    Args:
        source: the adapter.
        target: name of the target.
        updates: what is written; they are gone through once and not kept.
    """
    facts = [(update.rank, source.dtype or update.dtype) for update in updates]
    kept = {key: value for key, value in source.saved.metadata.items() if key not in _OWN}
    found = {
        "adapter_type": ", ".join(sorted(source.saved.kinds())),
        "rank": counted(str(rank) for rank, _ in facts if rank is not None),
        **_model(source, kept),
        **kept,
        "export_target": target,
        "export_modules": str(len(source.parts)),
        "export_dtype": counted(str(dtype).removeprefix("torch.") for _, dtype in facts),
        "sidestep_exporters_version": importlib.metadata.version("sidestep-exporters"),
    }
    return {key: value for key, value in found.items() if value}


def loss_metadata(losses: Mapping[str, float]) -> dict[str, str]:
    """Return what a file of approximations says about the relative error of each module."""
    return {"approximation_error": json.dumps({name: float(f"{loss:.3g}") for name, loss in losses.items()})}


def _model(source: Source, kept: dict[str, str]) -> dict[str, str]:
    """Return which model an adapter belongs to that does not say so itself, if that is known."""
    if source.base is None or "base_identity" in kept:
        return {}
    model = source.base.model
    return {"base_model": model.name, "base_variant": model.variant, "base_identity": identity(model)}


def counted(values: Iterable[str]) -> str:
    """Return a value that all have, or how often each of several occurs."""
    counts = Counter(values)
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common())
