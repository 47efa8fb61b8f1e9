"""A small Demucs with random weights, as the hub holds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file

SOURCES = ("drums", "bass", "other", "vocals")


def write_tiny_demucs(folder: Path, name: str = "htdemucs", *, parts: Sequence[str] = ("tiny",), seed: int = 0) -> Path:
    """Write a model as the hub holds it, a list and a file for each part, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        torch.manual_seed(seed + number)
        write_part(folder / f"{part}.safetensors")
    (folder / f"{name}.yaml").write_text(f"models: {json.dumps(list(parts))}\n", encoding="utf-8")
    return folder


def write_part(path: Path) -> None:
    """Write one model with its class and arguments in the header."""
    arguments = {
        "segment": 2,
        "channels": 8,
        "growth": 2,
        "t_layers": 1,
        "t_heads": 2,
        "t_hidden_scale": 1.0,
        "bottom_channels": 0,
    }
    model = HTDemucs(list(SOURCES), **arguments)
    facts = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([list(SOURCES)]),
        "kwargs": json.dumps(arguments),
    }
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path, metadata=facts)
