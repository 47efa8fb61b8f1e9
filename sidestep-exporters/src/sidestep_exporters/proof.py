"""The proof at the end of every export: a host reads the files back and finds the trained weight differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

import torch
from sidestep_core.errors import ProofError
from torch import Tensor, nn

from sidestep_exporters.source import Intended, Source

Module = TypeVar("Module", bound=nn.Module)
_FLOAT64 = 64 * torch.finfo(torch.float64).eps  # what sums of products may differ by, as a share of their size


class Host(Protocol):
    """A program that has read an export.

    Attributes:
        names: original names of the modules that it adapts.
        unused: names of tensors in the files that it made nothing of.
    """

    names: Collection[str]
    unused: Collection[str]

    def delta(self, name: str, weight: Tensor) -> Tensor:
        """Return what it adds to a module's weight, both float64 [out, in]."""


def prove(source: Source, intended: Callable[[str], Intended], reader: str, load: Callable[[], Host]) -> float:
    """Return the largest relative difference between a host's weight differences and the intended ones.

    Every element may be off by what rounding the written tensors explains, and by no more.

    Args:
        source: what was written.
        intended: gives what was to be written of a module.
        reader: what the host is called in messages.
        load: lets the host read the files.

    Raises:
        ProofError: the host does not load the files, adapts other modules, leaves tensors aside, or other differences
            come out.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # what a host only warns of, the comparison finds
            host = load()
    except Exception as error:  # a host may fail in any way on a file that is not what it should be
        raise ProofError(f"{reader} cannot load what was written: {type(error).__name__}: {error}") from error
    if strangers := sorted(set(host.names) - source.parts.keys()):
        raise ProofError(f"{reader} adapts {strangers[0]!r}, which was not trained")
    if absent := [name for name in source.parts if name not in host.names]:
        raise ProofError(f"{reader} finds no weights for {absent[0]!r}, which was trained")
    if host.unused:
        raise ProofError(f"{reader} makes nothing of {min(host.unused)!r}")
    return max(_compare_module(intended(name), source.weight(name), reader, host) for name in source.parts)


def _compare_module(intended: Intended, weight: Tensor, reader: str, host: Host) -> float:
    update, name = intended.update, intended.update.name
    wanted = update.map(torch.Tensor.double).delta(weight)
    try:
        found = host.delta(name, weight)
    except Exception as error:  # as above: what a host does with a strange file is not in our hands
        raise ProofError(f"{reader} cannot use {name!r}: {type(error).__name__}: {error}") from error
    if found.shape != wanted.shape:
        raise ProofError(f"{reader} reads {name!r} as {tuple(found.shape)}, not {tuple(wanted.shape)}")
    comparison = Comparison(name, reader)
    comparison.add(found, wanted, update.spread(intended.dtype, weight) + _FLOAT64 * weight.abs())
    return comparison.error()


class Comparison:
    """What was found of a module's difference against what was wanted, all at once or some rows after the others."""

    def __init__(self, name: str, reader: str) -> None:
        self._name, self._reader = name, reader
        self._off = self._largest = self._wanted = 0.0

    def add(self, found: Tensor, wanted: Tensor, allowed: Tensor) -> None:
        """Take in some rows, all float64 [rows, in]; `allowed` is what rounding explains of each element."""
        difference = (found - wanted).abs()
        largest = float(wanted.abs().max())
        off = difference / (allowed + _FLOAT64 * largest)
        # nothing wanted and nothing found is no difference; what is no number compares as one
        off = torch.where(difference == 0, 0, off).nan_to_num(torch.inf, torch.inf)
        self._off = max(self._off, float(off.max()))
        self._largest = max(self._largest, float(difference.nan_to_num(torch.inf).max()))
        self._wanted = max(self._wanted, largest)

    def error(self) -> float:
        """Return the largest difference as a share of the largest wanted value.

        Raises:
            ProofError: some element is further off than rounding explains.
        """
        error = self._largest / self._wanted if self._wanted else float("inf") if self._largest else 0.0
        if self._off > 1:
            raise ProofError(
                f"{self._reader} reads {self._name!r} with a relative difference of {error:.1e}, "
                f"{self._off:.2g} times what rounding explains"
            )
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
