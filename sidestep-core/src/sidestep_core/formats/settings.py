"""Numbers from an adapter's settings, without torch: alpha and rank of a module, and what OFT needs to know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sidestep_core.errors import AdapterError
from sidestep_core.formats.keys import DIFFUSERS_PREFIX
from sidestep_core.formats.saved import CONFIG_NAME, SavedAdapter
from sidestep_core.model.names import module_path

_KINDS = {"LORA": ("lora", "dora"), "OFT": ("oft",)}
_METADATA = "lora_adapter_metadata"


def check_config(saved: SavedAdapter, kind: str) -> None:
    """Compare adapter_config.json, where there is one, with the kind that the tensors are of.

    Raises:
        AdapterError: they do not go together, or PEFT has such adapters and they are not read here.
    """
    if not saved.config:
        return
    where = saved.folder / CONFIG_NAME
    declared = saved.config.get("peft_type")
    if not isinstance(declared, str) or declared not in _KINDS:
        raise AdapterError(f"{where}: peft_type {declared!r} is not read; there is {', '.join(_KINDS)}")
    if kind not in _KINDS[declared] or bool(saved.config.get("use_dora")) != (kind == "dora"):
        dora = " with use_dora" if saved.config.get("use_dora") else ""
        raise AdapterError(f"{where} says {declared}{dora}, the tensors are of {kind}")
    if saved.config.get("block_share"):
        raise AdapterError(f"{where}: block_share is not read")


def low_rank_scale(saved: SavedAdapter, name: str, rank: int, alpha: float | None) -> float:
    """Return the factor on `up @ down` of a module.

    It comes from adapter_config.json, else from the module's own alpha, else from what diffusers wrote into the
    header, and is 1 where nobody says anything: so do the programs whose files these are.

    Raises:
        AdapterError: a number is missing, is none, or contradicts the tensors.
    """
    if saved.config:
        return _declared(saved.config, name, rank, str(saved.folder / CONFIG_NAME))
    if alpha is not None:
        return alpha / rank
    if _METADATA in saved.metadata:
        where = f"{saved.weights}: {_METADATA}"
        return _declared(_diffusers_settings(saved.metadata[_METADATA], where), module_path(name), rank, where)
    return 1.0


def number(settings: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """Return a number of some settings.

    Raises:
        AdapterError: it is not one.
    """
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"{where}: {key} must be a number, not {value!r}")
    return value


def _declared(settings: Mapping[str, Any], name: str, rank: int, where: str) -> float:
    declared = _own(settings, "r", "rank_pattern", name, where)
    if declared != rank:
        raise AdapterError(f"{where}: {name!r} has rank {rank}, the settings say {declared:g}")
    alpha = _own(settings, "lora_alpha", "alpha_pattern", name, where)
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _diffusers_settings(text: str, where: str) -> Mapping[str, Any]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where} is not readable JSON: {error}") from error
    if not isinstance(settings, dict):
        raise AdapterError(f"{where} does not describe an adapter")
    return {key.removeprefix(DIFFUSERS_PREFIX): value for key, value in settings.items()}


def _own(settings: Mapping[str, Any], key: str, pattern_key: str, name: str, where: str) -> float:
    """Return the module's own value, or else the adapter's.

    PEFT takes pattern keys for regular expressions. Here they are names: a stranger's expression is not run, and
    every trainer writes names.
    """
    patterns = settings.get(pattern_key) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"{where}: {pattern_key} must be a table of names")
    for pattern, own in patterns.items():
        plain = pattern.removeprefix("^")
        if not re.fullmatch(r"[\w.]+", plain):
            raise AdapterError(f"{where}: {pattern!r} in {pattern_key} is not a module name")
        if name == plain or (plain == pattern and name.endswith(f".{plain}")):
            return number({key: own}, key, f"{where}: {name!r}")
    return number(settings, key, f"{where}: {name!r}")
