"""Writes low-rank adapters in PEFT's format under ACE-Step's names, with equal bytes for equal adapters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sidestep_core.adapter_files import CONFIG_NAME, PREFIX, WEIGHTS_NAME, LowRank, layer_order
from sidestep_core.model.names import module_path
from sidestep_core.tensor_files import tensor_bytes

DIFFUSERS_PREFIX = "transformer."


def lora_settings(modules: Sequence[LowRank], names: Sequence[str]) -> dict[str, Any]:
    """Return PEFT's settings for updates whose scale is folded in: alpha equals the rank everywhere.

    Args:
        modules: the updates.
        names: what the host calls their projections, in the same order.
    """
    ranks = {name: module.rank for name, module in zip(names, modules, strict=True)}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    own = {name: rank for name, rank in ranks.items() if rank != usual}
    return {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": own,
        "alpha_pattern": own,
        "target_modules": list(ranks),
        "use_dora": False,
        "use_rslora": False,
    }


def diffusers_metadata(modules: Sequence[LowRank]) -> dict[str, str]:
    """Return the safetensors metadata from which diffusers takes ranks, alphas and targets instead of guessing."""
    settings = lora_settings(modules, [module_path(module.name) for module in modules])
    named = {f"{DIFFUSERS_PREFIX}{key}": value for key, value in settings.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(named, sort_keys=True)}


def peft_files(modules: Sequence[LowRank], metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of a PEFT folder, by name, that means the same to ACE-Step, diffusers and ComfyUI.

    The last two do not read alpha from adapter_config.json, so the scale is folded into `lora_B` and alpha written
    as the rank. There is no task type: with one, PEFT would call the decoder as if it were a language model.
    """
    folded = sorted((module.folded() for module in modules), key=lambda module: layer_order(module.name))
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": "",
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
        **lora_settings(folded, [module.name for module in folded]),
    }
    tensors = {f"{PREFIX}{m.name}.lora_{part}.weight": t for m in folded for part, t in (("A", m.down), ("B", m.up))}
    return {
        CONFIG_NAME: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        WEIGHTS_NAME: tensor_bytes(tensors, {**metadata, **diffusers_metadata(folded)}),
    }
