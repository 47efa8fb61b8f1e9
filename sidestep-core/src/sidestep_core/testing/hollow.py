"""Checkpoints of the published sizes without weights: real configs and headers over files that are all hole."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

_SIZES: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "sliding_window": 128,
    "text_hidden_dim": 1024,
    "num_lyric_encoder_hidden_layers": 8,
    "num_timbre_encoder_hidden_layers": 4,
}
_XL_SIZES: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "encoder_hidden_size": 2048,
    "encoder_intermediate_size": 6144,
    "encoder_num_attention_heads": 16,
    "encoder_num_key_value_heads": 8,
}


def write_hollow(root: Path, variant: str) -> Path:
    """Write a model folder that reads as a real one and takes no room, for tests of plans and estimates.

    Args:
        root: the checkpoint folder.
        variant: any of `layout.VARIANTS`.
    """
    import torch

    from sidestep_core.model.components import build_condition_encoder, build_transformer
    from sidestep_core.model.dims import ModelDims
    from sidestep_core.model.folder import SILENCE
    from sidestep_core.model.names import to_original
    from sidestep_core.model.tiny import tiny_config

    sizes = _SIZES | (_XL_SIZES if variant.startswith("xl-") else {})
    config = tiny_config(variant, layers=sizes["num_hidden_layers"]) | sizes | {"dtype": "bfloat16"}
    dims = ModelDims.from_config(config, "a published model")
    with torch.device("meta"):
        parts = {"transformer": build_transformer(dims), "condition_encoder": build_condition_encoder(dims)}
    shapes = {
        to_original(part, key): tuple(tensor.shape)
        for part, module in parts.items()
        for key, tensor in module.state_dict().items()
        if key != "silence_latent"
    }
    folder = root / f"acestep-v15-{variant}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / SILENCE).write_bytes(b"")
    _write_weights(folder / "model.safetensors", shapes)
    return folder


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    entries, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
