"""What each kind of device can do. Refusals, `auto` and listings follow from this one table. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from sidestep_core.configs import MemoryConfig
from sidestep_core.errors import ConfigError

Resolved = Literal["bf16", "fp16", "fp32"]


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a kind of device can do.

    Attributes:
        precisions: compute types that it trains in, the one for `auto` first as far as the single device has it.
        fused: whether AdamW is one kernel there.
        eight_bit: whether 8-bit optimizer states run there.
        quantized: how it can keep a frozen base besides the compute type.
        swap: whether weights that wait in main memory free memory of the device.
        attention: what computes attention there, for people.
    """

    precisions: tuple[Resolved, ...]
    fused: bool
    eight_bit: bool
    quantized: tuple[str, ...]
    swap: bool
    attention: str


CAPABILITIES: Mapping[str, Capabilities] = {
    "cuda": Capabilities(
        precisions=("bf16", "fp16", "fp32"),
        fused=True,
        eight_bit=True,
        quantized=("int8", "nf4"),
        swap=True,
        attention="flash and memory-efficient kernels",
    ),
    "xpu": Capabilities(
        precisions=("bf16", "fp16", "fp32"),
        fused=True,
        eight_bit=True,
        quantized=("int8", "nf4"),
        swap=True,
        attention="flash kernels",
    ),
    "mps": Capabilities(
        precisions=("bf16", "fp32", "fp16"),
        fused=True,
        eight_bit=False,
        quantized=("int8", "nf4"),
        swap=False,
        attention="one kernel for the whole matrix",
    ),
    "cpu": Capabilities(
        precisions=("fp32", "bf16"),
        fused=True,
        eight_bit=True,
        quantized=("int8", "nf4"),
        swap=False,
        attention="flash kernel",
    ),
}


def kind_of(device: str) -> str:
    """Return the kind of a device such as `cuda:1`."""
    return device.partition(":")[0]


def capabilities(device: str) -> Capabilities:
    """Return what a device can do, by its kind.

    Raises:
        ConfigError: there is no such kind.
    """
    kind = kind_of(device)
    if kind not in CAPABILITIES:
        raise ConfigError(f"no device {device!r}; there is {', '.join(CAPABILITIES)}")
    return CAPABILITIES[kind]


def check_precision(precision: str, device: str) -> None:
    """Refuse a precision that a device cannot train in; raise `ConfigError`."""
    can = capabilities(device).precisions
    if precision not in can:
        raise ConfigError(f"no {precision} training on {device}; use --precision {' or '.join(sorted(can))}")


def check_memory(memory: MemoryConfig, device: str) -> None:
    """Refuse ways to save memory that a device does not have; raise `ConfigError`."""
    can = capabilities(device)
    if memory.quantize_base not in ("none", *can.quantized):
        there = ", ".join(can.quantized) or "none"
        raise ConfigError(f"no {memory.quantize_base} base on {device}; --quantize-base takes {there} there")
