"""`sidestep tensors`: what a folder of tensors holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
from sidestep_core.store.index import open_store
from sidestep_core.store.info import StoreInfo, store_info

from sidestep_cli.output import duration, json_option, plural, print_facts, print_json, size, warn

BAR_WIDTH = 30


@click.group()
def tensors() -> None:
    """Look into a folder of tensors."""


@tensors.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read every tensor: shapes, finite numbers, what its header says.")
@json_option
def info(folder: Path, verify: bool, as_json: bool) -> int:
    """Show songs, lengths, sizes and what is missing in FOLDER.

    Exit code 1: something is missing or damaged.
    """
    found = store_info(open_store(folder), verify=verify)
    if as_json:
        print_json(_as_dict(found))
    else:
        _print(found, verify)
    return 1 if found.missing or found.problems else 0


def _print(found: StoreInfo, verified: bool) -> None:
    store = found.store
    shared = f", {plural(found.shared, 'song')} with the same audio as another" if found.shared else ""
    facts = [
        ("folder", str(store.path)),
        ("songs", f"{len(store.songs):,}{shared}"),
        ("audio", duration(found.seconds)),
        ("on disk", size(found.bytes)),
        ("format", " ".join(filter(None, (store.kind, store.dtype)))),
        ("model", store.variant),
        ("prompts", store.conditioning),
        ("latents", store.latent),
        ("lyrics cut", plural(found.cut_lyrics, "song") if found.cut_lyrics else ""),
    ]
    print_facts([(name, value) for name, value in facts if value])
    if found.lengths:
        click.echo()
        _print_lengths(found.lengths)
    for path in found.missing:
        warn(f"missing: {path}")
    for problem in found.problems:
        warn(problem)
    if verified and not found.problems:
        click.echo("\nevery tensor reads as it should")


def _print_lengths(lengths: tuple[tuple[float, float, int], ...]) -> None:
    most = max(count for _, _, count in lengths)
    labels = [f"over {low:g} s" if math.isinf(high) else f"{low:g} to {high:g} s" for low, high, _ in lengths]
    width = max(map(len, labels))
    for label, (_, _, count) in zip(labels, lengths, strict=True):
        bar = click.style("█" * max(1, round(BAR_WIDTH * count / most)), fg="cyan")
        click.echo(f"{label.rjust(width)}  {bar} {count:,}")


def _as_dict(found: StoreInfo) -> dict[str, Any]:
    store = found.store
    return {
        "path": str(store.path),
        "format": store.kind,
        "dtype": store.dtype,
        "variant": store.variant,
        "conditioning": store.conditioning,
        "latent": store.latent,
        "seconds": found.seconds,
        "bytes": found.bytes,
        "shared": found.shared,
        "cut_lyrics": found.cut_lyrics,
        "missing": [str(path) for path in found.missing],
        "problems": list(found.problems),
        "songs": [{"name": s.name, "seconds": s.seconds, "rows": s.rows, "repeat": s.repeat} for s in store.songs],
    }
