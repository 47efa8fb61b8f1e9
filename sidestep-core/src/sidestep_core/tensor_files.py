"""Safetensors files with equal bytes for equal content: made in memory, or written one tensor after the other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch
import torch
from torch import Tensor

from sidestep_core.errors import CheckpointError
from sidestep_core.model.headers import ITEM_SIZES, TensorInfo
from sidestep_core.model.streaming import read_tensor

_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_CHUNK = 1 << 23  # bytes copied at once


@attrs.frozen
class Planned:
    """A tensor whose bytes are made when their turn comes.

    Attributes:
        dtype: type as the format has it (`BF16`).
        shape: shape.
        chunks: returns its bytes, in pieces.
    """

    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[memoryview | bytes]]

    @property
    def bytes(self) -> int:
        """Size of its bytes."""
        return TensorInfo(Path(), "", self.dtype, self.shape).bytes


def planned(dtype: torch.dtype, shape: tuple[int, ...], make: Callable[[], Tensor]) -> Planned:
    """Return a plan for a tensor that a function makes, in a type that it is converted to."""
    return Planned(_NAMES[dtype], shape, lambda: iter([_bytes(make().to(dtype))]))


def planned_rows(like: TensorInfo, dtype: torch.dtype | None, rows: Callable[[], Iterable[Tensor]]) -> Planned:
    """Return a plan for a tensor of another's shape that is made some rows after the others.

    Args:
        like: the other tensor.
        dtype: type that the rows are converted to, that of the other tensor if None.
        rows: returns the rows.
    """
    wanted = dtype or next(known for known, name in _NAMES.items() if name == like.dtype)
    return Planned(_NAMES[wanted], like.shape, lambda: (_bytes(block.to(wanted)) for block in rows()))


def copied(info: TensorInfo) -> Planned:
    """Return a plan for a tensor that is copied from another file byte by byte."""
    return Planned(info.dtype, info.shape, lambda: chunks_of(info))


def converted(info: TensorInfo, dtype: torch.dtype) -> Planned:
    """Return a plan for a tensor of another file in another type; what holds no real numbers is copied."""
    if info.dtype not in _NAMES.values():
        return copied(info)
    return planned(dtype, info.shape, lambda: read_tensor(info, "cpu", dtype))


def chunks_of(info: TensorInfo) -> Iterator[bytes]:
    """Yield the bytes of a tensor in a file, in pieces of equal size but the last."""
    left = info.bytes
    with info.file.open("rb") as stream:
        stream.seek(info.start)
        while left:
            piece = stream.read(min(left, _CHUNK))
            if not piece:
                raise CheckpointError(f"{info.file} became shorter while it was read")
            left -= len(piece)
            yield piece


def write_planned(path: Path, tensors: Mapping[str, Planned], metadata: Mapping[str, str]) -> None:
    """Write a file of planned tensors; one at a time is in memory.

    Args:
        path: file to write; a reader must not look at it before this returns.
        tensors: by name; larger number types come first in the file, else the order stays.
        metadata: strings for the header.
    """
    ordered = sorted(tensors.items(), key=lambda item: -ITEM_SIZES[item[1].dtype])
    entries, end = {}, 0
    for name, plan in ordered:
        entries[name] = {"dtype": plan.dtype, "shape": list(plan.shape), "data_offsets": [end, end + plan.bytes]}
        end += plan.bytes
    with path.open("xb") as file:
        file.write(_header(entries, metadata))
        for name, plan in ordered:
            begin = file.tell()
            for piece in plan.chunks():
                file.write(piece)
            if file.tell() - begin != plan.bytes:
                raise ValueError(f"{name!r} has {file.tell() - begin} bytes, {plan.bytes} were planned")
        file.flush()
        os.fsync(file.fileno())


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the same tensors and metadata always give the same bytes.

    The library orders metadata anew in every process, so the header is put together here.
    """
    data: bytes = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    end = 8 + int.from_bytes(data[:8], "little")
    return _header(json.loads(data[8:end]), metadata) + data[end:]


def _bytes(tensor: Tensor) -> memoryview:
    raw: Any = tensor.reshape(-1).contiguous().view(torch.uint8).numpy()
    return memoryview(raw)


def _header(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    header = {"__metadata__": dict(sorted(metadata.items())), **entries}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensor data must begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text
