#!/usr/bin/env python3
"""Measure a training step (forward, backward, AdamW) with each adapter type, against LoRA on the same projections.

One thread, CPU seconds of the process, adapters in turn within each round; the ratio is the median over the rounds of
each round's own ratio. The model has random weights. Needs sidestep-core[train] and sidestep-adapters.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.dora import DoraAdapter
from sidestep_adapters.loha import LohaAdapter
from sidestep_adapters.lokr import LokrAdapter
from sidestep_adapters.lora import LoraAdapter
from sidestep_adapters.oft import OftAdapter
from sidestep_core.configs import TargetsConfig
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import ModelFolder, resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.tiny import write_tiny
from sidestep_core.specs import BuildContext
from sidestep_core.targets import choose_targets

# name in the table -> class, settings; no dropout anywhere, so that only the forms are compared
ADAPTERS: dict[str, tuple[Any, Any]] = {
    "lora, rank 64": (LoraAdapter, LoraConfig(dropout=0.0)),
    "lora, rank 64, pissa": (LoraAdapter, LoraConfig(dropout=0.0, init_weights="pissa")),
    "dora, rank 64": (DoraAdapter, DoraConfig(dropout=0.0)),
    "lokr": (LokrAdapter, LokrConfig()),
    "lokr, rank 8": (LokrAdapter, LokrConfig(rank=8)),
    "lokr, weight decomposition": (LokrAdapter, LokrConfig(weight_decompose=True)),
    "loha, rank 64": (LohaAdapter, LohaConfig()),
    "loha, rank 32": (LohaAdapter, LohaConfig(rank=32)),
    "loha, rank 8": (LohaAdapter, LohaConfig(rank=8)),
    "oft, blocks of 64": (OftAdapter, OftConfig()),
}


def make_step(model: ModelFolder, adapter_type: Any, config: Any, args: argparse.Namespace) -> Callable[[], None]:
    """Return a function that takes one training step."""
    decoder = load_decoder(model)
    adapter = adapter_type(config, BuildContext())
    targets = choose_targets(projection_shapes(model.dims), TargetsConfig(target_mlp=args.mlp))
    adapter.attach(decoder, targets)
    decoder.train()
    optimizer = torch.optim.AdamW(adapter.groups(1e-4), fused=True)
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, args.frames, 64, generator=generator)
    conditioning = torch.randn(1, args.rows, model.dims.condition_size, generator=generator)

    def step() -> None:
        decoder(noisy, torch.tensor([0.5]), conditioning).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return CPU seconds of each round by name; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in seconds.items()}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512, help="width of the decoder")
    parser.add_argument("--layers", type=int, default=8, help="layers of the decoder")
    parser.add_argument("--frames", type=int, default=750, help="latent frames, 25 a second")
    parser.add_argument("--rows", type=int, default=160, help="rows of conditioning")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that are counted")
    parser.add_argument("--mlp", action=argparse.BooleanOptionalAction, default=True, help="adapt the MLP as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_tiny(Path(folder), hidden=args.hidden, layers=args.layers, window=128)
        model = resolve_model(Path(folder), "base")
        steps = {name: make_step(model, *made, args) for name, made in ADAPTERS.items()}
    seconds = measure(steps, args.rounds)
    baseline = seconds["lora, rank 64"]
    print("| adapter | CPU seconds a step | against LoRA |\n| --- | --- | --- |")
    for name, values in seconds.items():
        ratio = statistics.median(own / lora for own, lora in zip(values, baseline, strict=True))
        print(f"| {name} | {statistics.median(values):.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
