"""Weights from safetensors files into modules: checked by their headers first, then read one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sidestep_core.errors import CheckpointError
from sidestep_core.model.headers import TensorInfo

Device = str | torch.device
# (name in the module, where it is) -> the tensor, or a module that takes the place of the one with that tensor
Read = Callable[[str, TensorInfo], Tensor | nn.Module]
_SHOWN = 3


def fill(
    module: nn.Module,
    tensors: Mapping[str, TensorInfo],
    where: str,
    read: Read,
    rename: Callable[[str], str] = str,
) -> None:
    """Give a module built on the meta device its weights, one after the other; none is in memory twice.

    Args:
        module: what to fill; all its parameters and persistent buffers must be among the tensors, and no others.
        tensors: name in the module -> where it is.
        where: how messages name the model.
        read: what becomes of each of them, such as `reader`.
        rename: name in the module -> name that messages use.

    Raises:
        CheckpointError: tensors are missing, unexpected or of the wrong shape, or a file cannot be read.
    """
    check({name: tuple(value.shape) for name, value in module.state_dict().items()}, tensors, where, rename)
    state = {}
    for name, info in tensors.items():
        made = read(name, info)
        if isinstance(made, nn.Module):
            module.set_submodule(name.rpartition(".")[0], made)
        else:
            state[name] = made
    # what is missing are the weights of modules that others took the place of
    module.load_state_dict(state, strict=False, assign=True)


def reader(device: Device, dtype: torch.dtype) -> Read:
    """Return what reads every tensor as it is, into one type and onto one device."""
    return lambda _, info: read_tensor(info, device, dtype)


def check(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, TensorInfo],
    where: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Compare names and shapes; raise one `CheckpointError` with how many differ and the first three names."""
    missing = [rename(name) for name in expected if name not in found]
    extra = [info.key for name, info in found.items() if name not in expected]
    shapes = [
        f"{info.key} is {list(info.shape)}, not {list(expected[name])}"
        for name, info in found.items()
        if name in expected and info.shape != expected[name]
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for what, names in (("missing", missing), ("not expected", extra), ("of the wrong shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(f"{where}: tensors do not fit the config: {'; '.join(problems)}")


def read_tensor(info: TensorInfo, device: Device, dtype: torch.dtype) -> Tensor:
    """Read one tensor into memory of its own.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        # opened anew for each tensor: an open file's pages would all count as memory of the process
        with safe_open(info.file, framework="pt") as file:
            tensor: Tensor = file.get_tensor(info.key).to(device, dtype, copy=True)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{info.file} cannot be read: {error}") from error
    return tensor


def read_rows(info: TensorInfo, start: int, stop: int) -> Tensor:
    """Read some rows of a tensor, in the type they are stored in, flattened to [rows, everything else].

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with safe_open(info.file, framework="pt") as file:
            rows: Tensor = file.get_slice(info.key)[start:stop].clone()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{info.file} cannot be read: {error}") from error
    return rows.reshape(len(rows), -1)
