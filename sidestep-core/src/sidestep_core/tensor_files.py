"""Safetensors files with equal bytes for equal content."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from torch import Tensor


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the same tensors and metadata always give the same bytes.

    The library orders metadata anew in every process, so the header is put together here.
    """
    data: bytes = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    end = 8 + int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensor data must begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[end:]
