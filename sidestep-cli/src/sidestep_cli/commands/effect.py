"""`sidestep effect`: how far an adapter moves what the model gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from sidestep_core.configs import Precision
from sidestep_core.errors import CheckpointError
from sidestep_core.formats.saved import read_adapter

from sidestep_cli.base_model import find_model, model_options
from sidestep_cli.output import json_option, print_facts, print_json, print_table, warn
from sidestep_cli.session import Session, pass_session

if TYPE_CHECKING:
    from sidestep_core.adapter_tools.effect import Effect

BAR_WIDTH = 30


@click.command()
@click.argument("adapter", type=click.Path(path_type=Path))
@model_options
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Length of the inputs."
)
@click.option("-s", "--seed", default=42, show_default=True, help="Seed of the inputs.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps or xpu.")
@click.option(
    "--precision",
    type=click.Choice(("auto", "bf16", "fp16", "fp32")),
    default="auto",
    show_default=True,
    help="Compute precision.",
)
@json_option
@pass_session
def effect(
    session: Session,
    adapter: Path,
    checkpoint_dir: Path | None,
    model: str | None,
    seconds: float,
    seed: int,
    device: str,
    precision: Precision,
    as_json: bool,
) -> int:
    """Show how far ADAPTER moves what each layer of the model gives.

    The model runs twice on the same noise, without and with the adapter. A layer's figure is how far its output moves,
    as a share of that output; the last is the whole model's.

    Exit code 1: the adapter does nothing.
    """
    saved = read_adapter(adapter)
    base = find_model(session, saved.metadata, checkpoint_dir, model)
    if base is None:
        raise CheckpointError("no model to measure on: give --checkpoint-dir and --model")
    from sidestep_core.adapter_tools.effect import measure_effect
    from sidestep_core.device import DTYPES, resolve_device, resolve_precision

    place = resolve_device(device)
    dtype = DTYPES[resolve_precision(precision, place)]
    found = measure_effect(saved, base, seconds=seconds, seed=seed, device=place, dtype=dtype)
    if as_json:
        print_json({"model": base.name, "modules": found.modules, "layers": list(found.layers), "flow": found.flow})
    else:
        print_facts([("model", base.name), ("modules", str(found.modules))])
        click.echo()
        _print_moves(found)
    if found.nothing:
        warn("the adapter does nothing: the model's output is the same without it")
    return 1 if found.nothing else 0


def _print_moves(found: Effect) -> None:
    most = max((*found.layers, found.flow)) or 1.0
    moves = [*((str(i), moved) for i, moved in enumerate(found.layers)), ("output", found.flow)]
    bars = [click.style("█" * round(BAR_WIDTH * moved / most), fg="cyan") for _, moved in moves]
    rows = [(name, f"{moved:.2%}", bar) for (name, moved), bar in zip(moves, bars, strict=True)]
    print_table(("layer", "moves by", ""), rows, right=("layer", "moves by"))
