"""Devices and precisions: what there is, what is taken, how much memory is free."""

from __future__ import annotations

import attrs
import psutil  # type: ignore[import-untyped]
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from sidestep_core.capabilities import Capabilities, capabilities, check_precision, kind_of
from sidestep_core.capabilities import Resolved as Resolved  # part of what this module is about
from sidestep_core.errors import ConfigError
from sidestep_core.launch import Launch, launched

DTYPES: dict[Resolved, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@attrs.frozen(kw_only=True)
class DeviceFacts:
    """A device of this machine.

    Attributes:
        name: as `--device` takes it.
        title: what it calls itself.
        total: bytes of its memory.
        free: bytes that can be allocated.
        precisions: compute types that it has, the one that `auto` takes first.
        capabilities: what its kind can do.
    """

    name: str
    title: str
    total: int
    free: int
    precisions: tuple[Resolved, ...]
    capabilities: Capabilities


def available_devices() -> list[str]:
    """Return the devices of this machine, the preferred one first; the CPU is always there."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    cuda.sort(key=lambda name: -torch.cuda.get_device_properties(name).total_memory)
    mps = ["mps"] if torch.backends.mps.is_available() else []
    xpu = [f"xpu:{i}" for i in range(torch.xpu.device_count())] if torch.xpu.is_available() else []
    return [*cuda, *mps, *xpu, "cpu"]


def resolve_device(name: str) -> str:
    """Return the device to use: the preferred one for "auto", the first of its kind for "cuda" or "xpu".

    Processes that were started together take one each, of the kind that is preferred or named.

    Raises:
        ConfigError: it is not there, or there are not enough of them.
    """
    there = available_devices()
    if launched().count > 1:
        return _own_device(name, there, launched())
    if name == "auto":
        return there[0]
    for device in there:
        if name in (device, kind_of(device)):
            return device
    raise ConfigError(f"no device {name!r}; there is {', '.join(there)}")


def _own_device(name: str, there: list[str], place: Launch) -> str:
    kind = there[0].partition(":")[0] if name == "auto" else name
    if kind == "cpu":
        return kind
    if (device := f"{kind}:{place.local_rank}") in there:
        return device
    raise ConfigError(
        f"{place.local_count} processes need a GPU each, and there is {', '.join(there)}; start one for each GPU and "
        "leave out --device, or let them share the processor with --device cpu"
    )


def resolve_precision(name: str, device: str) -> Resolved:
    """Return the compute precision: for "auto", bf16 where the device has it, else fp16 (CUDA) or fp32.

    Raises:
        ConfigError: the device cannot train in it.
    """
    if name == "auto":
        return next(precision for precision in capabilities(device).precisions if _has(precision, device))
    if name not in DTYPES:
        raise ConfigError(f"no precision {name!r}; there is auto, {', '.join(DTYPES)}")
    check_precision(name, device)
    return name


def free_memory(device: str) -> int:
    """Return the bytes that can still be allocated on a device (this process's share of main memory for CPU, MPS)."""
    kind = kind_of(device)
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if kind == "xpu":
        return torch.xpu.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available) // launched().local_count


def used_memory(device: str) -> int:
    """Return the peak bytes allocated on a device; of the process on the CPU, where only the present value is known."""
    kind = kind_of(device)
    if kind == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if kind == "xpu":
        return torch.xpu.max_memory_allocated(device)
    if kind == "mps":
        return torch.mps.driver_allocated_memory()
    return int(psutil.Process().memory_info().rss)


def total_memory(device: str) -> int:
    """Return the bytes of a device's memory (main memory for the CPU and MPS)."""
    kind = kind_of(device)
    if kind == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if kind == "xpu":
        return int(torch.xpu.get_device_properties(device).total_memory)
    return main_memory()


def device_facts() -> list[DeviceFacts]:
    """Return what is known of each device, the preferred one first."""
    return [
        DeviceFacts(
            name=name,
            title=_title(name),
            total=total_memory(name),
            free=free_memory(name),
            precisions=tuple(p for p in capabilities(name).precisions if _has(p, name)),
            capabilities=capabilities(name),
        )
        for name in available_devices()
    ]


def main_memory() -> int:
    """Return the bytes of main memory in this machine: this process's share, where several were started together."""
    return int(psutil.virtual_memory().total) // launched().local_count


def make_accelerator(device: str, precision: Resolved) -> Accelerator:
    """Return an accelerator for a device and a precision."""
    # Accelerate keeps one state for the whole process: without this, a second run could not differ from the first
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    if device.startswith("xpu:"):
        torch.xpu.set_device(device)
    return Accelerator(cpu=device == "cpu", mixed_precision="no" if precision == "fp32" else precision)


def _title(device: str) -> str:
    kind = kind_of(device)
    if kind in ("cuda", "xpu"):
        library = torch.cuda if kind == "cuda" else torch.xpu
        return str(library.get_device_name(device))
    return "Apple GPU" if kind == "mps" else f"{psutil.cpu_count()} processors"


def _has(precision: Resolved, device: str) -> bool:
    """Tell whether this one device has a precision that its kind has."""
    if precision == "bf16" and kind_of(device) == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return precision != "bf16" or kind_of(device) != "mps" or bool(torch.backends.mps.is_macos_or_newer(14, 0))
