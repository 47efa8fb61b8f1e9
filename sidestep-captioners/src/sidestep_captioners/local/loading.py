"""Loading what a listening model consists of, from files of this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from sidestep_core.device import DTYPES, resolve_device, resolve_precision
from sidestep_core.errors import ProviderError
from sidestep_core.model.quiet import no_progress_bar
from sidestep_core.training.memory_check import is_about_memory

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Placement:
    """Where weights go and in what form.

    Attributes:
        device: of this machine.
        dtype: compute type.
        four_bit: keep the weights of projections in four bits (nf4).
        offload: let layers that find no room on the device stay in main memory.
    """

    device: str
    dtype: torch.dtype
    four_bit: bool
    offload: bool

    def __str__(self) -> str:
        kind = "four bits" if self.four_bit else str(self.dtype).removeprefix("torch.")
        return f"{kind} on {self.device}{' and main memory' if self.offload else ''}"

    def arguments(self) -> dict[str, Any]:
        """Return what `from_pretrained` takes."""
        made: dict[str, Any] = {"dtype": self.dtype, "device_map": "auto" if self.offload else {"": self.device}}
        if self.four_bit:
            from transformers import BitsAndBytesConfig

            made["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.dtype,
                llm_int8_enable_fp32_cpu_offload=self.offload,
            )
        return made


def place(device: str, *, four_bit: bool, offload: bool) -> Placement:
    """Return where a model goes; on the CPU always in bf16, since float32 would need twice the memory.

    Raises:
        ConfigError: there is no such device.
    """
    found = resolve_device(device)
    dtype = torch.bfloat16 if found == "cpu" else DTYPES[resolve_precision("auto", found)]
    return Placement(device=found, dtype=dtype, four_bit=four_bit, offload=offload)


@contextmanager
def naming_failures(name: str, placement: Placement) -> Iterator[None]:
    """Turn what goes wrong while a model is loaded into one line.

    Raises:
        ProviderError: it does not fit ("memory") or its files are not what they should be ("not found").
    """
    try:
        with no_progress_bar():
            yield
    except Exception as error:  # loaders of several libraries, whose errors have no common base
        if is_about_memory(error):
            raise ProviderError(f"{name} does not fit as {placement}{more_room(placement)}", kind="memory") from error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ProviderError(f"{name} cannot be loaded: {reason}", kind="not found") from error


def more_room(placement: Placement) -> str:
    """Return what would need less memory, as the end of a message."""
    hints = [] if placement.four_bit else ["four bits (--provider local_8-10gb, or --memory 8-10gb)"]
    hints += [] if placement.offload else ["--cpu-offload"]
    return f"; try {' or '.join(hints)}" if hints else ""


@contextmanager
def timed(stage: str, name: str) -> Iterator[None]:
    """Log how long a stage takes."""
    began = time.monotonic()
    yield
    logger.info("%s: %s took %.2f s", name, stage, time.monotonic() - began)


def free_memory(device: str) -> None:
    """Give back what is held for later."""
    import gc

    gc.collect()
    clear: dict[str, Callable[[], None]] = {
        "cuda": torch.cuda.empty_cache,
        "mps": torch.mps.empty_cache,
        "xpu": torch.xpu.empty_cache,
    }
    clear.get(device.partition(":")[0], lambda: None)()
