"""A run as it was worked out, for `train --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
from sidestep_core.conversion import unstructure
from sidestep_core.model.dims import projection_shapes
from sidestep_core.plan import TrainPlan
from sidestep_core.presets import request_tables
from sidestep_core.requests import Choice

from sidestep_cli.analysis_text import print_ranks
from sidestep_cli.memory_text import memory_dict, memory_parts, recomputed_layers
from sidestep_cli.output import amount, duration, plural, print_facts, print_json, print_table, size, warn


def print_plan(plan: TrainPlan, *, as_json: bool) -> None:
    """Print what a run would do on stdout, and what to look out for on stderr."""
    if as_json:
        print_json(_as_dict(plan))
        return
    print_facts(list(_facts(plan)))
    click.echo()
    _print_modules(plan)
    click.echo()
    if plan.rank_map is not None:
        ranks = {target.name: target.rank for target in plan.targets if target.rank is not None}
        print_ranks(ranks, projection_shapes(plan.model.dims))
        click.echo()
    _print_memory(plan)
    for notice in plan.notices:
        warn(notice)


def _facts(plan: TrainPlan) -> Iterator[tuple[str, str]]:
    request = plan.request
    model = plan.model
    yield "run", f"{plan.name} in {plan.run}"
    if plan.resume is not None:
        yield "goes on from", str(plan.resume)
    variant = f"{model.variant}, " if model.variant else ""
    yield "model", f"{model.name} ({variant}{amount(model.parameters)} parameters, {model.dtype})"
    seconds = sum(song.stored.seconds * song.visits for song in plan.songs)
    crop = f", in crops of at most {duration(plan.window / 25)}" if plan.window else ""
    folders = ", ".join(str(store.path) for store in plan.stores)
    yield "data", f"{plural(len(plan.songs), 'song')}, {duration(seconds)}{crop}, from {folders}"
    if plan.held_out:
        yield "held out", plural(len(plan.held_out), "song")
    yield "adapter", _described(request.adapter)
    if plan.rank_map is not None:
        left = len(projection_shapes(plan.model.dims)) - len(plan.targets)
        yield "rank map", f"{plan.rank_map.path}: ranks of their own, {plural(left, 'projection')} left out"
    trainable = "not known before it is built" if plan.trainable is None else f"{plan.trainable:,} parameters"
    yield "trained", f"{trainable} on {plural(len(plan.targets), 'projection')}"
    train = request.train
    yield "epochs", f"{train.epochs:,} of {plural(plan.steps_per_epoch, 'step')} over {plural(plan.visits, 'sample')}"
    yield "steps", f"{plan.total_steps:,} of {train.batch_size} x {train.accumulation} samples"
    schedule = " x ".join(choice.name for choice in request.controllers) or "constant"
    yield "rate", f"{plan.learning_rate:g}, {schedule}, {plan.warmup_steps:,} warm-up"
    yield "optimizer", _described(request.optimizer)
    yield "timesteps", _described(request.timesteps)
    yield "kept", "; ".join(_kept(plan))
    if request.preview.every or request.preview.every_steps:
        yield "previews", _previews(plan)


def _kept(plan: TrainPlan) -> Iterator[str]:
    """Yield what is kept beside checkpoints, and when the run ends by itself."""
    keep = plan.request.keep
    yield "the last adapter"
    tracked = "validation" if plan.held_out else "smoothed loss"
    if keep.save_best and plan.total_steps >= keep.save_best_after * plan.steps_per_epoch:
        begin = f" after epoch {keep.save_best_after:,}" if keep.save_best_after else ""
        yield f"the best by {tracked}{begin}"
    if keep.loss_milestones:
        yield f"those at {tracked} {', '.join(f'{loss:g}' for loss in keep.loss_milestones)}"
    if plan.patience:
        yield f"ends after {plural(plan.patience, 'epoch')} without a new best"


def _previews(plan: TrainPlan) -> str:
    preview = plan.request.preview
    spaces = [(preview.every, "epoch"), (preview.every_steps, "step")]
    often = " and ".join(f"every {plural(count, word)}" for count, word in spaces if count)
    made_with = [*(song.name for song in plan.previewed), *(["the prompt"] if preview.prompt else [])]
    return f"{often}, {duration(preview.seconds)} with {', '.join(made_with)}"


def _described(choice: Choice) -> str:
    """Return a component with its settings, as `lora (rank 64, alpha 128)`."""
    if choice.config is None:
        return choice.name
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in unstructure(choice.config).items())
    return f"{choice.name} ({settings})" if settings else choice.name


def _print_modules(plan: TrainPlan) -> None:
    kinds: dict[str, list[tuple[int, int]]] = {}
    ranks: dict[str, Counter[int | None]] = {}
    for target in plan.targets:
        kind = target.name.split(".", 2)[-1]
        kinds.setdefault(kind, []).append((target.out_features, target.in_features))
        ranks.setdefault(kind, Counter())[target.rank] += 1
    config = plan.request.adapter.config
    usual = unstructure(config).get("rank", "-") if config is not None else "-"
    rows = []
    for kind, shapes in kinds.items():
        out, in_ = shapes[0]
        rows.append((kind, str(len(shapes)), f"{out:,} x {in_:,}", _ranks(ranks[kind]) or str(usual)))
    print_table(("projection", "layers", "shape", "rank"), rows, right=("layers",))


def _print_memory(plan: TrainPlan) -> None:
    memory, recomputed = plan.memory, plan.checkpointed_layers or 0
    base = plan.request.memory.quantize_base
    rows = [(part, size(count), what) for part, count, what in memory_parts(memory, recomputed, base)]
    rows.append(("layers", recomputed_layers(memory, recomputed), "recomputed in the backward pass"))
    rows.append(("total", size(memory.total(recomputed)), _hint(plan, len(memory.layers))))
    print_table(("memory", "about", "what it is"), rows, right=("about",))


def _hint(plan: TrainPlan, layers: int) -> str:
    if plan.checkpointed_layers is not None:
        return "as --gradient-checkpointing says"
    return f"down to {size(plan.memory.total(layers))} where memory is short: layers are then recomputed"


def _as_dict(plan: TrainPlan) -> dict[str, Any]:
    recomputed = plan.checkpointed_layers or 0
    return {
        "run": str(plan.run),
        "name": plan.name,
        "resume": None if plan.resume is None else str(plan.resume),
        "model": plan.model.name,
        "variant": plan.model.variant,
        "songs": len(plan.songs),
        "held_out": [song.name for song in plan.held_out],
        "trainable": plan.trainable,
        "targets": [target.name for target in plan.targets],
        "rank_map": None if plan.rank_map is None else str(plan.rank_map.path),
        "ranks": {target.name: target.rank for target in plan.targets if target.rank is not None},
        "steps_per_epoch": plan.steps_per_epoch,
        "total_steps": plan.total_steps,
        "warmup_steps": plan.warmup_steps,
        "memory": memory_dict(plan.memory, recomputed),
        "settings": request_tables(plan.request),
        "notices": list(plan.notices),
    }


def _ranks(counts: Counter[int | None]) -> str:
    """Return the ranks of projections that have their own; "" where they have the adapter's."""
    own = sorted(rank for rank in counts if rank is not None)
    return " to ".join(map(str, dict.fromkeys((own[0], own[-1])))) if own else ""
