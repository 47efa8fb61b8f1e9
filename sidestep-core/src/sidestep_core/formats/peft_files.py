"""Writes low-rank adapters in PEFT's format under ACE-Step's names, with equal bytes for equal adapters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sidestep_core.formats.keys import DIFFUSERS_PREFIX, PEFT_PREFIX, layer_order
from sidestep_core.formats.saved import CONFIG_NAME, WEIGHTS_NAME
from sidestep_core.formats.updates import LowRank, Update
from sidestep_core.formats.weight_updates import Decomposed
from sidestep_core.model.names import module_path
from sidestep_core.tensor_files import tensor_bytes

MAGNITUDE = "lora_magnitude_vector"


def lora_settings(updates: Sequence[Update], names: Sequence[str]) -> dict[str, Any]:
    """Return PEFT's settings for updates whose scale is folded in: alpha equals the rank everywhere.

    Args:
        updates: LoRA, or DoRA throughout.
        names: what the host calls their projections, in the same order.
    """
    ranks = {name: update.rank for name, update in zip(names, updates, strict=True)}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    own = {name: rank for name, rank in ranks.items() if rank != usual}
    return {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": own,
        "alpha_pattern": own,
        "target_modules": list(ranks),
        "use_dora": any(isinstance(update, Decomposed) for update in updates),
        "use_rslora": False,
    }


def lora_tensors(update: Update) -> dict[str, Tensor]:
    """Return the tensors of a folded LoRA or DoRA module by PEFT's names."""
    inner = update.inner if isinstance(update, Decomposed) else update
    assert isinstance(inner, LowRank)
    tensors = {"lora_A.weight": inner.down, "lora_B.weight": inner.up}
    return tensors | {MAGNITUDE: update.magnitude} if isinstance(update, Decomposed) else tensors


def diffusers_metadata(updates: Sequence[Update]) -> dict[str, str]:
    """Return the safetensors metadata from which diffusers takes ranks, alphas and targets instead of guessing."""
    settings = lora_settings(updates, [module_path(update.name) for update in updates])
    named = {f"{DIFFUSERS_PREFIX}{key}": value for key, value in settings.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(named, sort_keys=True)}


def peft_files(updates: Sequence[Update], metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of a PEFT folder of LoRA or DoRA, by name, that means the same to ACE-Step and diffusers.

    Not every program reads alpha from adapter_config.json, so the scale is folded into `lora_B` and alpha written as
    the rank; of LoRA, ComfyUI then reads the file as it is.
    """
    ordered = sorted((update.folded() for update in updates), key=lambda update: layer_order(update.name))
    settings = {"lora_dropout": 0.0, **lora_settings(ordered, [update.name for update in ordered])}
    tensors = {f"{PEFT_PREFIX}{u.name}.{part}": t for u in ordered for part, t in lora_tensors(u).items()}
    return peft_folder("LORA", settings, tensors, {**metadata, **diffusers_metadata(ordered)})


def peft_folder(
    method: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the files of a PEFT folder, by name.

    Args:
        method: PEFT's word for the adapter type.
        settings: what adapter_config.json says beyond what all types have in common.
        tensors: weights by their full keys.
        metadata: of the safetensors file.
    """
    config = {
        "peft_type": method,
        "task_type": None,  # with one, PEFT would call the decoder as if it were a language model
        "base_model_name_or_path": "",
        "bias": "none",
        "inference_mode": True,
        **settings,
    }
    return {
        CONFIG_NAME: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        WEIGHTS_NAME: tensor_bytes(tensors, {"format": "pt", **metadata}),
    }
