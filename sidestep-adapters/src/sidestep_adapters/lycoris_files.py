"""Files that LyCORIS, ACE-Step and ComfyUI read, under ACE-Step's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from sidestep_core.formats.keys import layer_order, lycoris_name
from sidestep_core.tensor_files import tensor_bytes
from torch import Tensor

# what LyCORIS calls our settings
_WORDS = {"rank": "linear_dim", "alpha": "linear_alpha"}


def lycoris_file(
    algorithm: str, config: Any, modules: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the file by its name.

    Args:
        algorithm: "lokr" or "loha".
        config: settings of the adapter.
        modules: LyCORIS's tensors of each projection, by original name.
        metadata: more strings for the header.
    """
    tensors = {
        f"{lycoris_name(name)}.{key}": tensor
        for name in sorted(modules, key=layer_order)
        for key, tensor in modules[name].items()
    }
    settings = {_WORDS.get(key, key): value for key, value in attrs.asdict(config).items()}
    own = {"algo": algorithm, "format": "lycoris", f"{algorithm}_config": json.dumps(settings, sort_keys=True)}
    return {f"{algorithm}_weights.safetensors": tensor_bytes(tensors, {**metadata, **own})}
