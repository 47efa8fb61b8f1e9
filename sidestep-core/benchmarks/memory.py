#!/usr/bin/env python3
"""Compare the memory estimate with what two real steps take, for adapter types and optimizers.

The models have random weights: the tiny one of the tests, and one 512 wide with 8 layers. Both figures leave out the
fixed overhead. On the CPU every tensor is counted from when an operation makes it until it is freed; on a GPU the
allocator counts. Needs sidestep-core[train] and whatever brings the adapter types.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from sidestep_core.configs import MemoryConfig, ModelConfig, TrainConfig
from sidestep_core.model.tiny import write_tiny
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.toolkit import Toolkit
from sidestep_core.training.measure import measure

MODELS = {"tiny": {}, "512 wide": {"hidden": 512, "layers": 8, "window": 128}}
ADAPTERS = ("lora", "dora", "lokr", "loha", "oft")
OPTIMIZERS = ("adamw", "adamw8bit", "adafactor")


def rows(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield model, adapter, optimizer, estimated and measured bytes, and how far they are apart."""
    toolkit = Toolkit(settings=Settings(folder / "settings.toml"))
    memory = MemoryConfig(
        gradient_checkpointing_ratio=args.recompute, quantize_base=args.quantize_base, block_swap=args.block_swap
    )
    for model, shape in MODELS.items():
        root = folder / model
        write_tiny(root, **shape)
        for adapter in ADAPTERS:
            for optimizer in OPTIMIZERS:
                request = TrainRequest(
                    model=ModelConfig(checkpoint_dir=root, device=args.device, precision=args.precision),
                    train=TrainConfig(batch_size=args.batch_size),
                    memory=memory,
                    adapter=Choice(name=adapter),
                    optimizer=Choice(name=optimizer),
                )
                found = toolkit.estimate(request, seconds=(args.seconds,))
                fit = found.lengths[0].fit
                expected = fit.total - fit.memory.overhead
                taken = measure(found.plan, found.machine, fit.recomputed)
                apart = f"{expected / taken - 1:+.1%}"
                yield model, adapter, optimizer, f"{expected / 1e6:.1f}", f"{taken / 1e6:.1f}", apart


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp16", "fp32"])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the sample")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--recompute", type=float, help="share of the layers that are recomputed")
    parser.add_argument("--quantize-base", default="none", choices=["none", "int8", "nf4"])
    parser.add_argument("--block-swap", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | adapter | optimizer | estimated MB | measured MB | apart |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(args, Path(folder)):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
