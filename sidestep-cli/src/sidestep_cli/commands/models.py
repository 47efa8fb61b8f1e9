"""`sidestep models`: the models of a checkpoint folder, and tiny ones to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from sidestep_core.errors import ConfigError
from sidestep_core.model.layout import VARIANTS, ModelFolder, scan

from sidestep_cli.output import amount, json_option, print_json, print_table, size, warn
from sidestep_cli.session import Session, pass_session


@click.group()
def models() -> None:
    """List the models of a checkpoint folder."""


@models.command("list")
@click.option(
    "-c",
    "--checkpoint-dir",
    type=click.Path(path_type=Path),
    help="Folder that holds the model folders; from the settings, then ./checkpoints, when not given.",
)
@json_option
@pass_session
def list_(session: Session, checkpoint_dir: Path | None, as_json: bool) -> None:
    """List models with variant, size, precision and what a complete checkpoint would have besides."""
    root = session.toolkit.checkpoint_dir(checkpoint_dir)
    found = scan(root)
    for name, reason in found.broken.items():
        warn(f"{name} cannot be used: {reason}")
    if as_json:
        print_json([_as_dict(model) for model in found.models])
    elif found.models:
        click.echo(root, err=True)
        headings = ("model", "variant", "layout", "type", "weights", "on disk", "missing")
        print_table(headings, [_row(model) for model in found.models], right=("weights", "on disk"))
    else:
        click.echo(f"no ACE-Step model in '{root}'", err=True)


@models.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--variants",
    default="base",
    show_default=True,
    help=f"Variants to write, with commas between them: {', '.join(VARIANTS)}.",
)
@click.option(
    "--diffusers", type=click.Path(path_type=Path), help="Folder to write the same model to in the diffusers layout."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the weights.")
def tiny(out: Path, variants: str, diffusers: Path | None, seed: int) -> None:
    """Write a complete checkpoint folder to OUT with random weights and a few layers.

    It behaves like a real one in every command and makes no music: it is there for tests and for trying things.
    """
    names = tuple(name.strip() for name in variants.split(",") if name.strip())
    if unknown := [name for name in names if name not in VARIANTS]:
        raise ConfigError(f"no variant {unknown[0]!r}; there is {', '.join(VARIANTS)}")
    if not names:
        raise ConfigError(f"no variant to write; there is {', '.join(VARIANTS)}")
    from sidestep_core.model.tiny import write_tiny

    write_tiny(out, variants=names, diffusers=diffusers, seed=seed)
    for path in (out, diffusers):
        if path is not None:
            click.echo(path)


def _row(model: ModelFolder) -> tuple[str, ...]:
    missing = ", ".join(model.missing)
    return (
        model.name,
        model.variant or "unknown",
        model.layout,
        model.dtype,
        amount(model.parameters),
        size(model.bytes),
        click.style(missing, fg="yellow") if missing else "nothing",
    )


def _as_dict(model: ModelFolder) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "variant": model.variant,
        "layout": model.layout,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "bytes": model.bytes,
        "missing": list(model.missing),
    }
