"""`sidestep adapter`: look into adapters, add, shrink and compare them, make one from two models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from sidestep_core.errors import CheckpointError, ConfigError
from sidestep_core.formats.saved import SavedAdapter, read_adapter
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.layout import resolve_model
from sidestep_core.plotting.draw import check_picture

from sidestep_cli.base_model import find_model, model_options
from sidestep_cli.by_layer import print_by_layer
from sidestep_cli.output import amount, json_option, plain_path, plural, print_facts, print_json, size, warn
from sidestep_cli.session import Session, pass_session

_PATH = click.Path(path_type=Path)
plot_option = click.option("--plot", type=_PATH, help="Picture to draw of it, PNG or SVG by its ending.")
rank_option = click.option("-r", "--rank", type=click.IntRange(1, 1024), help="Largest rank of what is written.")
output_option = click.option("-o", "--output", type=_PATH, required=True, help="Folder to write.")
_SHOWN = ("run", "base_model", "base_variant", "adapter_type", "rank", "alpha", "trigger_tag", "conditioning")


@click.group()
def adapter() -> None:
    """Look into saved adapters and work on them, whatever program they are for."""


@adapter.command()
@click.argument("path", type=_PATH)
@click.option("--prefix", default="", help="What stands before modules' names in the file, where it is not known.")
@click.option("--norms", is_flag=True, help="Show how large the update of each projection is.")
@plot_option
@model_options
@json_option
@pass_session
def info(
    session: Session,
    path: Path,
    prefix: str,
    norms: bool,
    plot: Path | None,
    checkpoint_dir: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Show what the adapter in PATH is, where it comes from and how large its updates are.

    Sizes are norms of the weight differences, as shares of the weights' own norms where the model is known.
    """
    if plot is not None:
        check_picture(plot)
    saved = read_adapter(path, prefix)
    base = find_model(session, saved.metadata, checkpoint_dir, model)
    sizes: Mapping[str, float] = {}
    if norms or plot is not None:
        from sidestep_core.adapter_tools.compare import norms as measure

        sizes = measure(saved, _weights(base), relative=base is not None)
    facts = _described(saved)
    if as_json:
        print_json({**facts, "metadata": dict(saved.metadata), "norms": dict(sizes)})
    else:
        print_facts([(name, _shown(name, value)) for name, value in facts.items() if value not in ("", {})])
        if norms:
            click.echo("\nsize of each update" + (", as a share of the weight's:" if base else ":"))
            print_by_layer(sizes, _figure)
    label = "share of the weight's norm" if base else "norm"
    _draw(sizes, plot, title=f"Updates of {path.name}", label=label)


@adapter.command()
@click.argument("adapters", nargs=-1, required=True, type=_PATH)
@click.option("-w", "--weights", help="Weights with commas between them, 1 for each when not given: 1,0.5")
@rank_option
@output_option
@model_options
@json_option
@pass_session
def merge(
    session: Session,
    adapters: tuple[Path, ...],
    weights: str | None,
    rank: int | None,
    output: Path,
    checkpoint_dir: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Add up several ADAPTERS as one plain LoRA.

    Plain LoRAs add up exactly, to the sum of their ranks; --rank cuts that, and other types are approximated with it.

    \b
    sidestep adapter merge warm/final bright/final --weights 1,0.5 --output both
    """
    shares = _weights_of(weights, len(adapters))
    saved = [read_adapter(path) for path in adapters]
    base = _common_base(session, saved, checkpoint_dir, model)
    from sidestep_core.adapter_tools.combine import combine

    made = combine(list(zip(saved, shares, strict=True)), rank=rank, base=_weights(base))
    _write(made, output, as_json)


@adapter.command()
@click.argument("path", type=_PATH)
@click.option("-r", "--rank", type=click.IntRange(1, 1024), required=True, help="Largest rank of what is written.")
@output_option
@model_options
@json_option
@pass_session
def resize(
    session: Session,
    path: Path,
    rank: int,
    output: Path,
    checkpoint_dir: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Write the adapter in PATH as a plain LoRA of another rank, the best there is of it."""
    saved = read_adapter(path)
    base = find_model(session, saved.metadata, checkpoint_dir, model)
    from sidestep_core.adapter_tools.combine import resize as shrink

    _write(shrink(saved, rank, _weights(base)), output, as_json)


@adapter.command()
@click.argument("before", type=_PATH)
@click.argument("after", type=_PATH)
@click.option(
    "-r", "--rank", type=click.IntRange(1, 1024), default=64, show_default=True, help="Rank of what is written."
)
@output_option
@json_option
def extract(before: Path, after: Path, rank: int, output: Path, as_json: bool) -> None:
    """Write a plain LoRA that makes the model in folder BEFORE the one in folder AFTER, as well as its rank allows."""
    first, second = (_model_at(path) for path in (before, after))
    from sidestep_core.adapter_tools.extract import extract as make

    found = make(first, second, rank)
    _write(found.lora, output, as_json)
    if found.left_out:
        warn(f"{plural(len(found.left_out), 'other weight')} differ too, which no LoRA holds: {found.left_out[0]}")


@adapter.command()
@click.argument("first", type=_PATH)
@click.argument("second", type=_PATH)
@plot_option
@model_options
@json_option
@pass_session
def diff(
    session: Session,
    first: Path,
    second: Path,
    plot: Path | None,
    checkpoint_dir: Path | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Show how far the adapters FIRST and SECOND are apart, projection by projection.

    0% is the same update; 100% is as far apart as the larger of the two is long.
    """
    if plot is not None:
        check_picture(plot)
    saved = [read_adapter(path) for path in (first, second)]
    base = _common_base(session, saved, checkpoint_dir, model)
    from sidestep_core.adapter_tools.compare import compare

    pairs = compare(saved[0], saved[1], _weights(base))
    apart = {name: pair.apart for name, pair in pairs.items()}
    if as_json:
        fields = ("first", "second", "apart", "cosine")
        print_json({name: {field: getattr(pair, field) for field in fields} for name, pair in pairs.items()})
    else:
        print_by_layer(apart, lambda value: f"{value:.1%}")
        alike = sum(pair.cosine for pair in pairs.values()) / len(pairs)
        click.echo(
            f"\n{plural(len(pairs), 'module')}, {max(apart.values()):.1%} apart at most, mean cosine {alike:.3f}"
        )
    _draw(apart, plot, title=f"{first.name} against {second.name}", label="apart, as a share of the larger")


def _described(saved: SavedAdapter) -> dict[str, Any]:
    modules = saved.modules()
    metadata = {key: saved.metadata[key] for key in _SHOWN if key in saved.metadata}
    return {
        "file": str(saved.weights),
        "kind": ", ".join(sorted(saved.kinds())),
        "layout": ", ".join(saved.layouts()),
        "modules": len(modules),
        "parameters": sum(info.count for parts in modules.values() for info in parts.values()),
        "dtype": ", ".join(sorted({info.dtype for info in saved.tensors.values()})),
        "bytes": saved.weights.stat().st_size,
        **metadata,
    }


def _shown(name: str, value: Any) -> str:
    if name == "file":
        return plain_path(Path(value))
    if name in ("bytes", "parameters"):
        return size(value) if name == "bytes" else amount(value)
    return str(value)


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 1000 else f"{value:,.0f}"


def _weights_of(text: str | None, count: int) -> list[float]:
    if text is None:
        return [1.0] * count
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--weights {text!r} must be numbers with commas between them") from error
    if len(found) != count or not all(abs(value) < float("inf") for value in found):
        raise ConfigError(f"--weights {text!r} must be {plural(count, 'finite number')}, one for each adapter")
    return found


def _common_base(
    session: Session, saved: list[SavedAdapter], checkpoint_dir: Path | None, model: str | None
) -> ModelFolder | None:
    """Return the model of several adapters; that they were trained on different ones is said."""
    names = {one.metadata.get("base_identity"): one.metadata.get("base_model", "") for one in saved} | {}
    names.pop(None, None)
    if len(names) > 1:
        warn(f"the adapters were trained on different models: {', '.join(sorted(names.values()))}")
    return find_model(session, saved[0].metadata, checkpoint_dir, model)


def _weights(model: ModelFolder | None) -> Any:
    if model is None:
        return None
    from sidestep_core.formats.base import BaseWeights

    return BaseWeights(model)


def _model_at(path: Path) -> ModelFolder:
    if not path.is_dir():
        raise CheckpointError(f"no model folder {str(path)!r}")
    return resolve_model(path, path.absolute().name)


def _write(made: Any, output: Path, as_json: bool) -> None:
    from sidestep_core.adapter_tools.writing import write_plain_lora

    write_plain_lora(made, output)
    if as_json:
        print_json({"path": str(output), "modules": len(made.updates), "losses": dict(made.losses)})
        return
    ranks = sorted({update.rank for update in made.updates})
    print_facts(
        [
            ("written", plain_path(output)),
            ("modules", str(len(made.updates))),
            ("rank", " to ".join(map(str, dict.fromkeys((ranks[0], ranks[-1]))))),
        ]
    )
    if any(made.losses.values()):
        click.echo("\nmissing of each update, which is approximated:")
        print_by_layer(made.losses, lambda loss: f"{loss:.1%}")


def _draw(values: Mapping[str, float], path: Path | None, *, title: str, label: str) -> None:
    if path is None:
        return
    from sidestep_core.adapter_tools.picture import draw_modules

    draw_modules(values, path, title=title, label=label)
    click.echo(f"drawn: {plain_path(path)}", err=True)
