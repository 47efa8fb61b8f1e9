"""Adapters as they lie on disk, described by their headers, without torch: nothing in them is trusted or run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.errors import AdapterError, CheckpointError
from sidestep_core.formats.keys import layer_order, read_key
from sidestep_core.model.headers import TensorInfo, read_metadata_and_header

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")
# what a module's tensors are called -> the kind of its update
_KINDS = {"generators": "oft", "difference": "full", "lokr": "lokr", "hada": "loha", "down": "lora", "up": "lora"}

Parts = Mapping[str, TensorInfo]


@attrs.frozen(kw_only=True)
class SavedAdapter:
    """An adapter folder or file whose header was read; the tensors stay on disk until they are asked for.

    Attributes:
        folder: where it lies.
        weights: its safetensors file.
        format: "peft" with an adapter_config.json, else the file's own word for its format ("lycoris") or "unknown".
        config: content of adapter_config.json; empty where none belongs to the file.
        metadata: strings from the safetensors header.
        tensors: what the file holds, by its names.
        prefix: a text that may stand in front of modules' paths, besides those that are known.
    """

    folder: Path
    weights: Path
    format: str
    config: Mapping[str, Any]
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    prefix: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by its name in the file."""
        return {key: info.shape for key, info in self.tensors.items()}

    def modules(self) -> dict[str, Parts]:
        """Return the tensors of each adapted module, by original names and our words, in layer order.

        Raises:
            AdapterError: there are tensors that no known program writes, or none at all.
        """
        found: dict[str, dict[str, TensorInfo]] = {}
        for key, info in self.tensors.items():
            try:
                read = read_key(key, self.prefix)
            except AdapterError as error:
                raise AdapterError(f"{self.weights}: {error}") from error
            parts = found.setdefault(read.module, {})
            if read.part in parts:
                raise AdapterError(f"{self.weights}: {key!r} and {parts[read.part].key!r} are the same tensor twice")
            parts[read.part] = info
        if not found:
            raise AdapterError(f"{self.weights} holds no tensors")
        return dict(sorted(found.items(), key=lambda item: layer_order(item[0])))

    def layouts(self) -> tuple[str, ...]:
        """Return who names modules as the file does: mostly one word of `keys.Key.layout`.

        Raises:
            AdapterError: as `modules`.
        """
        self.modules()
        return tuple(sorted({read_key(key, self.prefix).layout for key in self.tensors}))

    def kinds(self) -> frozenset[str]:
        """Return the kinds of its updates: lora, dora, oft, lokr, loha, full.

        Raises:
            AdapterError: as `modules`, or the tensors of a module belong to no kind or to several.
        """
        return frozenset(self.kind(name, parts) for name, parts in self.modules().items())

    def kind(self, name: str, parts: Parts) -> str:
        """Return the kind of one module's update.

        Raises:
            AdapterError: its tensors belong to none or to several.
        """
        words = {next((kind for start, kind in _KINDS.items() if part.startswith(start)), "") for part in parts} - {""}
        if len(words) != 1:
            what = " and ".join(sorted(words)) or f"nothing but {', '.join(sorted(parts))}"
            raise AdapterError(f"{self.weights}: {name!r} has tensors of {what}")
        kind = words.pop()
        return "dora" if kind == "lora" and "magnitude" in parts else kind


def read_adapter(path: Path, prefix: str = "") -> SavedAdapter:
    """Read the description of an adapter: a folder, or the safetensors file in it.

    Args:
        path: where it is.
        prefix: text in front of modules' paths in files of programs that are not known.

    Raises:
        AdapterError: there is none, or the files are damaged.
    """
    weights = _find_weights(path)
    try:
        metadata, tensors = read_metadata_and_header(weights)
    except CheckpointError as error:
        raise AdapterError(f"{weights} is not a readable safetensors file: {error}") from error
    if foreign := [key for key, info in tensors.items() if info.dtype not in _FLOATS]:
        raise AdapterError(f"{weights}: {foreign[0]!r} does not hold floating point numbers")
    config = _config_of(weights, tensors)
    return SavedAdapter(
        folder=weights.parent,
        weights=weights,
        format="peft" if config else metadata.get("format", "unknown"),
        config=config,
        metadata=metadata,
        tensors=tensors,
        prefix=prefix if not prefix or prefix.endswith(".") else f"{prefix}.",
    )


def _find_weights(path: Path) -> Path:
    if path.is_file():
        if path.suffix != ".safetensors":
            raise AdapterError(f"{path} is no safetensors file; other files can run code and are not read")
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


def _config_of(weights: Path, tensors: Mapping[str, TensorInfo]) -> Mapping[str, Any]:
    """Return the settings beside a file; another program's file beside them, which has its own alphas, has none."""
    file = weights.with_name(CONFIG_NAME)
    own = any(key.endswith(".alpha") for key in tensors) or not all(key.startswith("base_model.") for key in tensors)
    if not file.is_file() or (own and weights.name != WEIGHTS_NAME):
        return {}
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise AdapterError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(config, dict) or not config:
        raise AdapterError(f"{file} does not describe an adapter")
    return config
