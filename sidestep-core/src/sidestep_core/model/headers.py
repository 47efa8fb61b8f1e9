"""Headers of safetensors files, read without torch: names, shapes and types of the tensors, never their values."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.errors import CheckpointError

MAX_HEADER = 100_000_000  # bytes; the limit of the format's own reader
ITEM_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
ITEM_SIZES |= {"I8": 1, "U8": 1, "BOOL": 1}


@attrs.frozen
class TensorInfo:
    """One tensor of a file.

    Attributes:
        file: where it is.
        key: what it is called there.
        dtype: its type as the format has it (`BF16`).
        shape: its shape.
        start: where its bytes begin in the file.
    """

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of its bytes in the file."""
        return self.count * ITEM_SIZES[self.dtype]


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file.

    Raises:
        CheckpointError: the file cannot be read, is cut short or is no safetensors file.
    """
    return read_metadata_and_header(file)[1]


def read_metadata_and_header(file: Path) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """Return the strings and the tensors in the header of a safetensors file.

    Raises:
        CheckpointError: the file cannot be read, is cut short or is no safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = struct.unpack("<Q", stream.read(8))[0]
            if length > min(size - 8, MAX_HEADER):
                raise CheckpointError(f"{file} is cut short or no safetensors file: its header ends beyond the file")
            entries = json.loads(stream.read(length))
        metadata = {str(key): str(value) for key, value in entries.get("__metadata__", {}).items()}
        tensors = {key: _info(file, key, value, size, 8 + length) for key, value in entries.items() if key[:2] != "__"}
        return metadata, tensors
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(f"{file} is no safetensors file: its header cannot be understood") from error


def weight_files(folder: Path, stem: str) -> tuple[Path, ...]:
    """Return the files of a model saved as `<stem>.safetensors`, or of its shards; not all need exist.

    Raises:
        CheckpointError: the index of the shards cannot be read or names files outside the folder.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file() or not index.is_file():
        return (single,) if single.is_file() else ()
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} cannot be read as an index of shards") from error
    if outside:
        raise CheckpointError(f"{index} names {outside[0]!r}, which is no safetensors file of its own folder")
    return tuple(folder / name for name in names)


def _info(file: Path, key: str, value: Any, size: int, data: int) -> TensorInfo:
    begin, end = value["data_offsets"]
    if data + end > size:
        raise CheckpointError(f"{file} is cut short: {key!r} ends {data + end - size} bytes beyond the file")
    info = TensorInfo(file, key, str(value["dtype"]), tuple(int(n) for n in value["shape"]), data + begin)
    if begin < 0 or min(info.shape, default=0) < 0 or end - begin != info.count * ITEM_SIZES[info.dtype]:
        raise CheckpointError(f"{file} is damaged: {key!r} does not have the size of its shape")
    return info
