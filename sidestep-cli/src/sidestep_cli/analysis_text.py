"""What an analysis found, as text: the projections with the highest scores, and the ranks of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import click
from sidestep_core.analysis.result import Analysis, layers_and_kinds

from sidestep_cli.output import plural, print_facts, print_table

SHOWN = 20
BAR_WIDTH = 24
EIGHTHS = " ▏▎▍▌▋▊▉"


def print_analysis(analysis: Analysis) -> None:
    """Print what was measured, the ranking and the ranks by layer on stdout."""
    print_facts(list(_facts(analysis)))
    click.echo()
    most = analysis.by_score[0].score
    rows = [
        (
            module.name,
            f"{module.score:.2e}",
            f"{module.deviation / module.score:.0%}" if len(analysis.runs) > 1 else "-",
            str(module.effective_rank) if module.effective_rank > 0 else "-",
            str(module.rank),
            click.style(bar(module.score / most), fg="cyan"),
        )
        for module in analysis.ranked[:SHOWN]
    ]
    numbers = ("score", "between runs", "effective", "rank")
    print_table(("projection", *numbers, ""), rows, right=numbers)
    if left := len(analysis.ranked) - len(rows):
        click.echo(f"and {left:,} more")
    click.echo()
    print_ranks({module.name: module.rank for module in analysis.ranked}, (m.name for m in analysis.modules))


def print_ranks(ranks: Mapping[str, int], names: Iterable[str]) -> None:
    """Print the rank of every projection on stdout: a line for each layer, a column for each kind.

    Args:
        ranks: by name.
        names: of all projections that there are, in the model's order.
    """
    layers, kinds = layers_and_kinds(names)
    headings = ("layer", *(_short(kind) for kind in kinds))
    rows = [(layer, *(str(ranks.get(f"layers.{layer}.{kind}", "·")) for kind in kinds)) for layer in layers]
    print_table(headings, rows, right=headings)
    click.echo(click.style("ranks: s. self-attention, c. cross-attention; · is not adapted", dim=True))


def bar(share: float) -> str:
    """Return a bar for a share of 1, in eighths of a character."""
    eighths = max(1, round(share * BAR_WIDTH * 8))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _facts(analysis: Analysis) -> Iterator[tuple[str, str]]:
    ranks = [module.rank for module in analysis.ranked]
    songs = len({song for run in analysis.runs for song in run.songs})
    batches = sum(run.batches for run in analysis.runs)
    yield "model", analysis.model
    yield "songs", f"{songs:,} of {analysis.songs:,}, measured {batches:,} times in {plural(len(analysis.runs), 'run')}"
    yield "noise", _noise(analysis)
    yield "scores", f"known to about {analysis.error:.0%}" if analysis.error < 1 else "hardly known: too few songs"
    wanted = f" for a budget of {analysis.budget:,}" if analysis.budget else ""
    yield (
        "ranks",
        f"{min(ranks)} to {max(ranks)} around {analysis.base}{wanted}, "
        f"on {len(ranks)} of {len(analysis.modules)} projections",
    )
    if analysis.trainable is not None:
        yield "trains", f"{analysis.trainable:,} parameters of {analysis.adapter_type}"


def _noise(analysis: Analysis) -> str:
    if analysis.focus == "balanced":
        return "as in training"
    low, high = analysis.limits
    return f"timesteps from {low:g} to {high:g}"


def _short(kind: str) -> str:
    """Return `s.q` for `self_attn.q_proj`, `gate` for `mlp.gate_proj`."""
    block, _, name = kind.removesuffix("_proj").partition(".")
    return name if block == "mlp" else f"{block[0]}.{name}"
