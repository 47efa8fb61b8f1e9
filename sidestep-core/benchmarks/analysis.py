#!/usr/bin/env python3
"""Measure one sweep over all projections against three sweeps over a group each, and against keeping every gradient.

Time: one thread, CPU seconds of the process, the ways in turn within each round; the ratio is the median over the
rounds of each round's own ratio. Memory: peak above what is there once the model is loaded, each way in a process of
its own. The model has random weights. Linux only, for the peak. Needs sidestep-core[train].
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sidestep_core.analysis.ranks import CATEGORIES, category_of
from sidestep_core.analysis.sampling import noise_seed
from sidestep_core.analysis.sweep import Sweep
from sidestep_core.device import DTYPES
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.model.tiny import write_tiny
from sidestep_core.training.batches import Batch
from sidestep_core.training.loss import flow_matching_loss
from sidestep_core.training.order import BatchPlan, Crop
from sidestep_core.training.seeds import generator
from torch import nn

Way = Callable[[], None]
TIMESTEP = 0.5
MB = 1e6


class Song:
    """A decoder and a song of noise to measure it on."""

    def __init__(self, args: argparse.Namespace) -> None:
        model = resolve_model(args.checkpoint, "base")
        self.names = list(projection_shapes(model.dims))
        self.decoder: Decoder = load_decoder(model, dtype=DTYPES[args.precision])
        self.decoder.checkpointed_layers = args.layers if args.recompute else 0
        draw = torch.Generator().manual_seed(0)
        latents = torch.randn(1, args.frames, 64, generator=draw)
        rows = torch.randn(1, args.rows, model.dims.condition_size, generator=draw)
        plan = BatchPlan(0, 0, (Crop(0, 0, args.frames, 0),), args.frames)
        self.batch = Batch(plan, latents, rows)

    def weights(self, category: str = "") -> list[nn.Parameter]:
        """Return the weights of a category of projections, or of all."""
        names = [name for name in self.names if category in ("", category_of(name))]
        return [self.decoder.get_submodule(f"transformer.{module_path(name)}").weight for name in names]

    def loss(self) -> torch.Tensor:
        """Return the loss that every way starts from."""
        noise = torch.randn(self.batch.latents.shape, generator=generator("cpu", *noise_seed(0)))
        batch = self.batch.to(torch.device("cpu"), self.decoder.dtype)
        loss = flow_matching_loss(self.decoder, batch, torch.tensor([TIMESTEP]), noise, self.decoder.dtype)
        return loss.sum() / self.batch.plan.step_frames


def sums(weights: list[nn.Parameter]) -> list[float]:
    """Return the squared gradients of weights, and free them."""
    found = [weight.grad.float().square().sum() for weight in weights if weight.grad is not None]
    for weight in weights:
        weight.grad = None
    return torch.stack(found).tolist()


def forward(song: Song) -> Way:
    """Go forward with everything kept that gradients of all weights need, and no further."""

    def run() -> None:
        for weight in song.weights():
            weight.requires_grad_(True)
        song.loss()

    return run


def one_sweep(song: Song) -> Way:
    """Square and free each gradient as it is made."""
    sweep: list[Sweep] = []

    def run() -> None:
        for weight in song.weights():
            weight.requires_grad_(True)
        if not sweep:
            sweep.append(Sweep(song.decoder, song.names))
        sweep[0].measure(song.batch, TIMESTEP)

    return run


def kept(song: Song) -> Way:
    """Make all gradients in one sweep, then square them."""

    def run() -> None:
        for weight in song.weights():
            weight.requires_grad_(True)
        song.loss().backward()
        sums(song.weights())

    return run


def three_sweeps(song: Song) -> Way:
    """Go over the song once for each category, keep that one's gradients, then square them."""

    def run() -> None:
        for category in CATEGORIES:
            wanted = song.weights(category)
            for weight in song.weights():
                weight.requires_grad_(False)
            for weight in wanted:
                weight.requires_grad_(True)
            song.loss().backward()
            sums(wanted)

    return run


WAYS: dict[str, Callable[[Song], Way]] = {
    "forward pass alone": forward,
    "one sweep": one_sweep,
    "three sweeps": three_sweeps,
    "one sweep, all gradients kept": kept,
}


def peak(args: argparse.Namespace) -> None:
    """Print by how many bytes one way raises the peak of this process."""
    run = WAYS[args.way](Song(args))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    run()
    print(memory("VmHWM") - before)


def memory(name: str) -> int:
    """Return a figure of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


def measure_memory(args: argparse.Namespace) -> dict[str, float]:
    """Return the peak of each way, each in a process of its own."""
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--checkpoint", str(args.checkpoint), "--way", way]
        found[way] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measure_time(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return CPU seconds of each round; the first round warms up and is not counted."""
    # a model for each: the hooks of one way would be called in the others
    ways = {name: make(Song(args)) for name, make in WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds + 1):
        for name, run in ways.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in seconds.items()}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=768, help="width of the decoder")
    parser.add_argument("--layers", type=int, default=8, help="layers of the decoder")
    parser.add_argument("--frames", type=int, default=750, help="latent frames, 25 a second")
    parser.add_argument("--rows", type=int, default=160, help="rows of conditioning")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="compute precision")
    parser.add_argument("--recompute", action="store_true", help="recompute every layer in the backward pass")
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.way:
        peak(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.checkpoint = Path(folder)
        write_tiny(args.checkpoint, hidden=args.hidden, layers=args.layers, window=128)
        shapes = projection_shapes(resolve_model(args.checkpoint, "base").dims)
        peaks, seconds = measure_memory(args), measure_time(args)
    width = DTYPES[args.precision].itemsize
    sizes = [out * in_ * width for out, in_ in shapes.values()]
    layer = sum(sizes) / args.layers
    print(f"gradients: all {sum(sizes) / MB:.0f} MB, one layer {layer / MB:.0f} MB, largest {max(sizes) / MB:.0f} MB\n")
    print("| | peak MB | above the first | CPU seconds a song | against one sweep |\n| --- | --- | --- | --- | --- |")
    lowest = peaks["forward pass alone"]
    for name, values in seconds.items():
        ratio = statistics.median(own / one for own, one in zip(values, seconds["one sweep"], strict=True))
        above = (peaks[name] - lowest) / MB
        print(f"| {name} | {peaks[name] / MB:.0f} | {above:+.0f} | {statistics.median(values):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
