"""Adapters as they are on disk: read without trusting the file, rebuilt as weight differences."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidestep_core.errors import AdapterError
from sidestep_core.model.names import original_path

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."
_LORA_KEY = re.compile(r"base_model\.model\.(?P<name>.+)\.lora_(?P<part>[AB])\.weight\Z")
_FLOATS = ("F64", "F32", "F16", "BF16")


@attrs.frozen(kw_only=True)
class SavedAdapter:
    """An adapter folder or file whose header was read; the tensors stay on disk until they are asked for.

    Attributes:
        folder: where it lies.
        weights: its safetensors file.
        format: "peft", or the word that the file's own metadata has for it ("lycoris").
        config: content of adapter_config.json; empty for formats that have none.
        metadata: strings from the safetensors header.
        shapes: tensor name -> shape.
    """

    folder: Path
    weights: Path
    format: str
    config: Mapping[str, Any]
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


@attrs.frozen(kw_only=True, eq=False)
class LowRank:
    """The update of one projection: `scale * up @ down` is added to its weight.

    Attributes:
        name: original ACE-Step path below the decoder, `layers.0.self_attn.q_proj`.
        down: `lora_A` [rank, in].
        up: `lora_B` [out, rank].
        scale: factor on the product (alpha / rank, or alpha / sqrt(rank)).
    """

    name: str
    down: Tensor
    up: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Width of the two matrices."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the projection."""
        return self.up.shape[0], self.down.shape[1]

    def delta(self) -> Tensor:
        """Return the weight difference [out, in] in float32."""
        return self.up.float() @ self.down.float() * self.scale

    def folded(self, dtype: torch.dtype | None = None) -> LowRank:
        """Return the same update with the scale inside `up`, in another dtype if one is given."""
        up = (self.up.float() * self.scale).to(dtype or self.up.dtype)
        return LowRank(name=self.name, down=self.down.to(dtype or self.down.dtype), up=up)


def read_adapter(path: Path) -> SavedAdapter:
    """Read the description of an adapter: a folder, or the safetensors file in it.

    Raises:
        AdapterError: there is none, or the files are damaged.
    """
    weights = _find_weights(path)
    config_file = weights.with_name(CONFIG_NAME)
    config = _read_config(config_file) if config_file.is_file() else {}
    try:
        with safe_open(weights, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            slices = {key: file.get_slice(key) for key in file.offset_keys()}
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            foreign = [key for key, part in slices.items() if part.get_dtype() not in _FLOATS]
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{weights} is not a readable safetensors file: {error}") from error
    if foreign:
        raise AdapterError(f"{weights}: {foreign[0]!r} does not hold floating point numbers")
    adapter_format = "peft" if config else metadata.get("format", "unknown")
    return SavedAdapter(
        folder=weights.parent, weights=weights, format=adapter_format, config=config, metadata=metadata, shapes=shapes
    )


def low_rank_modules(saved: SavedAdapter) -> Iterator[LowRank]:
    """Yield the update of every adapted projection in layer order, read one at a time.

    Raises:
        AdapterError: it is no plain LoRA in PEFT's format, or config and tensors do not go together.
    """
    names = _module_names(saved)
    with safe_open(saved.weights, framework="pt") as file:
        for name in names:
            down, up = (file.get_tensor(f"{PREFIX}{name}.lora_{part}.weight") for part in "AB")
            if not (down.isfinite().all() and up.isfinite().all()):
                raise AdapterError(f"{saved.weights}: the weights of {name!r} are not all finite numbers")
            yield LowRank(name=name, down=down, up=up, scale=_scale(saved, name))


def deltas(saved: SavedAdapter) -> Iterator[tuple[str, Tensor]]:
    """Yield `(module name, float32 weight difference [out, in])` of every adapted projection in layer order.

    Raises:
        AdapterError: as `low_rank_modules`.
    """
    return ((module.name, module.delta()) for module in low_rank_modules(saved))


def layer_order(name: str) -> list[tuple[bool, int, str]]:
    """Return the key that sorts modules by name with layers.2 before layers.10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _find_weights(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise AdapterError(f"no adapter at {path}: there is nothing of that name")
    if (path / WEIGHTS_NAME).is_file():
        return path / WEIGHTS_NAME
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    inside = sorted(child.parent.name for child in path.glob(f"*/{WEIGHTS_NAME}"))
    hint = f"; there is one in {', '.join(inside)}" if inside else f"; a folder with {WEIGHTS_NAME} is expected"
    raise AdapterError(f"no adapter in {path}{hint}")


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise AdapterError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(config, dict) or not config:
        raise AdapterError(f"{path} does not describe an adapter")
    return config


def _module_names(saved: SavedAdapter) -> list[str]:
    kind = saved.config.get("peft_type", saved.format)
    if kind != "LORA" or saved.config.get("use_dora"):
        raise AdapterError(f"{saved.folder} holds {'DoRA' if kind == 'LORA' else kind}, not plain LoRA")
    names = {match["name"] for key in saved.shapes if (match := _LORA_KEY.match(key))}
    expected = {f"{PREFIX}{name}.lora_{part}.weight" for name in names for part in "AB"}
    if wrong := sorted(expected.symmetric_difference(saved.shapes)):
        state = "is missing" if wrong[0] in expected else "is no LoRA weight"
        raise AdapterError(f"{saved.weights}: {wrong[0]!r} {state}")
    if not names:
        raise AdapterError(f"{saved.weights} holds no tensors")
    if renamed := [name for name in sorted(names) if original_path(name) != name]:
        raise AdapterError(f"{saved.weights}: {renamed[0]!r} is a name of diffusers, not one of ACE-Step's own")
    for name in names:
        _check_shapes(saved, name)
    return sorted(names, key=layer_order)


def _check_shapes(saved: SavedAdapter, name: str) -> None:
    down, up = (saved.shapes[f"{PREFIX}{name}.lora_{part}.weight"] for part in "AB")
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or 0 in (*down, *up):
        raise AdapterError(f"{saved.weights}: the shapes {down} and {up} of {name!r} do not make a product")
    declared = _number(saved, "r", "rank_pattern", name)
    if declared != down[0]:
        raise AdapterError(f"{saved.folder}: {name!r} has rank {down[0]}, {CONFIG_NAME} says {declared:g}")


def _scale(saved: SavedAdapter, name: str) -> float:
    rank = saved.shapes[f"{PREFIX}{name}.lora_A.weight"][0]
    alpha = _number(saved, "lora_alpha", "alpha_pattern", name)
    return alpha / (math.sqrt(rank) if saved.config.get("use_rslora") else rank)


def _number(saved: SavedAdapter, key: str, pattern_key: str, name: str) -> float:
    """Return the module's own value, or else the adapter's.

    PEFT takes pattern keys for regular expressions. Here they are names: a stranger's expression is not run, and
    every trainer writes names.
    """
    value = saved.config.get(key)
    patterns = saved.config.get(pattern_key) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"{saved.folder / CONFIG_NAME}: {pattern_key} must be a table of names")
    for pattern, own in patterns.items():
        plain = pattern.removeprefix("^")
        if not re.fullmatch(r"[\w.]+", plain):
            raise AdapterError(f"{saved.folder / CONFIG_NAME}: {pattern!r} in {pattern_key} is not a module name")
        if name == plain or (plain == pattern and name.endswith(f".{plain}")):
            value = own
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"{saved.folder / CONFIG_NAME}: {key} of {name!r} must be a number, not {value!r}")
    return value
