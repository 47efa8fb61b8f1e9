"""Merged weights, made and read back a few rows at a time: at no time is a whole layer in memory."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from sidestep_core.errors import CheckpointError, ProofError
from sidestep_core.formats.base import BaseWeights
from sidestep_core.formats.updates import Update, widened
from sidestep_core.model.folder import model_files, read_model
from sidestep_core.model.headers import TensorInfo, read_header
from sidestep_core.model.streaming import read_rows
from sidestep_core.tensor_files import chunks_of
from torch import Tensor

from sidestep_exporters.proof import Comparison
from sidestep_exporters.source import Source

READER = f"safetensors {importlib.metadata.version('safetensors')} by the model's own index"
_BLOCK = 1 << 20  # elements of a weight that are looked at together


def row_blocks(shape: Sequence[int], step: int) -> Iterator[tuple[int, int]]:
    """Yield beginnings and ends of blocks of rows, each of some multiple of a step."""
    columns = 1
    for size in shape[1:]:
        columns *= size
    height = max(1, _BLOCK // (columns * step)) * step
    for start in range(0, shape[0], height):
        yield start, min(start + height, shape[0])


def merged_rows(source: Source, update: Update, start: int, stop: int) -> Tensor:
    """Return some rows of a weight with the update, in float64."""
    weight = _base(source).rows(update.name, start, stop).double()
    return weight + update.rows(start, stop).map(torch.Tensor.double).delta(weight)


def prove_merged(source: Source, folder: Path) -> float:
    """Return the largest relative difference between what the weights became and what the adapter adds.

    Raises:
        ProofError: tensors are missing, have other shapes, changed though they were not trained, or changed by more
            or less than rounding explains.
    """
    base = _base(source)
    try:
        model = read_model(folder, folder.parent)
        if model is None:
            raise ProofError(f"{READER} finds no model in what was written")
        merged = BaseWeights(model)
        before, after = (_tensors(weights) for weights in (base, merged))
    except CheckpointError as error:
        raise ProofError(f"{READER} cannot load what was written: {error}") from error
    if odd := sorted(before.keys() ^ after.keys()):
        raise ProofError(f"{READER} finds {odd[0]!r} on one side only")
    adapted = {base.tensors[name].key for name in source.parts}
    for key, info in after.items():
        if info.shape != before[key].shape:
            raise ProofError(f"{READER} reads {key!r} as {info.shape}, not {before[key].shape}")
        if key not in adapted and not _same(before[key], info):
            raise ProofError(f"{READER} reads other numbers in {key!r}, which was not trained")
    return max(_compare(source, name, merged.tensors[name]) for name in source.parts)


def _base(source: Source) -> BaseWeights:
    return source.model("merged")


def _tensors(weights: BaseWeights) -> dict[str, TensorInfo]:
    """Return all tensors of the files that hold a decoder, by their names there."""
    model = weights.model
    files = model_files(model.path, model.layout)
    if model.layout == "diffusers":
        files = tuple(file for file in files if file.parent.name == "transformer")
    return {key: info for file in files for key, info in read_header(file).items()}


def _same(before: TensorInfo, after: TensorInfo) -> bool:
    """Tell whether a tensor has the same numbers, as far as its type holds them."""
    if before.dtype == after.dtype:
        return all(a == b for a, b in zip(chunks_of(before), chunks_of(after), strict=True))
    if not before.shape:
        return True
    blocks = ((read_rows(before, *rows), read_rows(after, *rows)) for rows in row_blocks(before.shape, 1))
    return all(old.to(new.dtype).equal(new) for old, new in blocks)


def _compare(source: Source, name: str, written: TensorInfo) -> float:
    update, comparison = source.update(name), Comparison(name, READER)
    for start, stop in row_blocks(written.shape, update.row_step):
        stored = read_rows(written, start, stop)
        weight = _base(source).rows(name, start, stop).double()
        wanted = update.rows(start, stop).map(torch.Tensor.double).delta(weight)
        merged = weight + wanted
        comparison.add(stored.double() - weight, wanted, widened(merged, stored.dtype) - merged.abs())
    return comparison.error()
