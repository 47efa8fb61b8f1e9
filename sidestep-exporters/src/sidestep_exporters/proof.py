"""The proof at the end of every export: a host reads the files back and finds the trained weight differences."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from peft.tuners.lora import LoraLayer
from sidestep_core.adapter_files import PREFIX, LowRank, deltas
from sidestep_core.errors import ExportError, ProofError
from sidestep_core.files import write_atomic
from sidestep_core.model.names import original_path
from torch import Tensor, nn

from sidestep_exporters.source import Source

ADAPTER = "default"  # the name under which the hosts are told to load
Module = TypeVar("Module", bound=nn.Module)


def write_proven(folder: Path, files: Mapping[str, bytes], prove: Callable[[Path], float] | None) -> float | None:
    """Write files into a folder once a host has read them back from beside it.

    Args:
        folder: where the files go; made if need be, other files in it stay.
        files: content by name.
        prove: is given the folder to read back and returns the largest relative difference; None skips the proof.

    Raises:
        ExportError: there is a file where the folder should be.
        ProofError: the proof failed; nothing is left.
    """
    error = None
    if folder.is_file():
        raise ExportError(f"{folder} is a file; give a folder as --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if prove is not None:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as aside:
            for name, content in files.items():
                (Path(aside) / name).write_bytes(content)
            error = prove(Path(aside))
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        write_atomic(folder / name, content)
    return error


def skeleton(tree: Module, shapes: Mapping[str, tuple[int, int]]) -> Module:
    """Grow projections of the given names and (out, in) shapes on a bare module, without memory for their weights."""
    for name, (out_features, in_features) in shapes.items():
        *path, last = name.split(".")
        parent: nn.Module = tree
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        linear = nn.Linear(in_features, out_features, bias=False, device="meta")
        # one zero seen as a whole matrix: hosts look at its shape, dtype and device only
        linear.weight = nn.Parameter(torch.zeros(()).expand(out_features, in_features), requires_grad=False)
        parent.add_module(last, linear)
    return tree


def prove(source: Source, reader: str, load: Callable[[], nn.Module]) -> float:
    """Return the largest relative difference between a host's weight differences and the trained ones.

    Args:
        source: what was written.
        reader: what the host is called in messages.
        load: lets the host read the files; returns the module tree it adapted.

    Raises:
        ProofError: the host does not load the files, adapts other projections, or other differences come out than
            the rounding of the written dtype explains.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # what a host only warns of, the comparison finds
            layers = _adapted(load())
    except Exception as error:  # a host may fail in any way on a file that is not what it should be
        raise ProofError(f"{reader} cannot load what was written: {type(error).__name__}: {error}") from error
    if strangers := sorted(layers.keys() - {module.name for module in source.modules}):
        raise ProofError(f"{reader} adapts {strangers[0]!r}, which was not trained")
    worst = 0.0
    for written, (name, trained) in zip(source.modules, deltas(source.saved), strict=True):
        layer = layers.get(name)
        if layer is None or any(weight.is_meta for weight in layer.parameters()):
            raise ProofError(f"{reader} finds no weights for {name!r}, which was trained")
        difference = relative_difference(_delta(name, layer), trained)
        if not difference <= tolerance(written.up.dtype):
            raise ProofError(
                f"{reader} reads {name!r} with a relative difference of {difference:.1e}; "
                f"rounding explains {tolerance(written.up.dtype):.1e}"
            )
        worst = max(worst, difference)
    return worst


def relative_difference(found: Tensor, trained: Tensor) -> float:
    """Return the largest difference as a share of the largest trained value; infinite if that is zero."""
    if found.shape != trained.shape:
        return float("inf")
    largest = (found - trained).abs().max()
    return float(largest / trained.abs().max()) if largest != 0 else 0.0


def tolerance(dtype: torch.dtype) -> float:
    """Return the relative difference that rounding both factors to a dtype explains."""
    return max(torch.finfo(dtype).eps, 1e-5)


def _adapted(tree: nn.Module) -> dict[str, nn.Module]:
    return {
        original_path(name.removeprefix(PREFIX)): module
        for name, module in tree.named_modules()
        if isinstance(module, LoraLayer) and isinstance(module, nn.Module)
    }


def _delta(name: str, layer: nn.Module) -> Tensor:
    """Return what the host adds to the weight: its own scale times the factors that it read."""
    down, up = (layer.get_submodule(f"lora_{part}.{ADAPTER}").get_parameter("weight").detach() for part in "AB")
    scaling: dict[str, float] = layer.scaling  # type: ignore[assignment]
    return LowRank(name=name, down=down, up=up, scale=scaling[ADAPTER]).delta()
