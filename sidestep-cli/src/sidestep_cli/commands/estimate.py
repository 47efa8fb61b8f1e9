"""`sidestep estimate`: how much memory a run takes, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
from sidestep_core.estimate import ROWS, Estimation, LengthEstimate
from sidestep_core.fitting import Fit

from sidestep_cli.commands.train import GROUPS, SLOTS, request_of
from sidestep_cli.memory_text import memory_dict, memory_parts, recomputed_layers
from sidestep_cli.output import amount, duration, json_option, print_facts, print_json, print_table, size
from sidestep_cli.parts import Resolved
from sidestep_cli.session import Session, pass_session
from sidestep_cli.slots import SlotCommand

COLOURS = {"fits": "green", "tight": "yellow", "does not fit": "red"}


@click.command(cls=SlotCommand, groups=[group for group in GROUPS if not group.unlocked_by], slots=SLOTS)
@click.option("--preset", metavar="NAME|PATH", help="Start from a preset: its name, or a .toml file.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    multiple=True,
    help="Length of the longest song or window; may be repeated. Without tensors it is 60 and 240.",
)
@click.option(
    "--free",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Memory of the card that is planned for, instead of what is free here.",
)
@click.option("--measure", is_flag=True, help="Take two real steps at the longest length and show what they took.")
@json_option
@pass_session
def estimate(
    session: Session,
    settings: Resolved,
    preset: str | None,
    seconds: Sequence[float],
    free: float | None,
    measure: bool,
    as_json: bool,
) -> None:
    """Work out how much memory a run takes, and whether it fits.

    Takes the options of 'sidestep train' and writes nothing. Without tensors, lengths of songs are assumed.

    \b
    sidestep estimate --preset vram_8gb
    sidestep estimate --preset vram_8gb --free 8 --model xl-base --seconds 120
    sidestep estimate --dataset-dir my_tensors --adapter-type lokr --measure
    """
    room = None if free is None else round(free * 1e9)
    found = session.toolkit.estimate(request_of(settings), seconds=seconds, free=room, measure=measure)
    if as_json:
        print_json(_as_dict(found))
        return
    print_facts(list(_facts(found)))
    click.echo()
    _print_lengths(found)
    for line in _remarks(found):
        click.echo(line)


def _facts(found: Estimation) -> Iterator[tuple[str, str]]:
    plan, machine = found.plan, found.machine
    yield "device", f"{machine.device} in {machine.precision}, {size(machine.free)} free"
    yield "model", f"{plan.model.name} ({amount(plan.model.parameters)} parameters)"
    trainable = "not known before it is built" if plan.trainable is None else f"{plan.trainable:,} parameters"
    yield "adapter", f"{plan.request.adapter.name}, {trainable}"
    train = plan.request.train
    yield "steps", f"{train.batch_size} x {train.accumulation} samples, {plan.request.optimizer.name}"
    if found.assumed:
        yield "assumed", f"{ROWS} rows of conditioning; 'sidestep train --dry-run' knows those of your songs"


def _print_lengths(found: Estimation) -> None:
    base = found.plan.request.memory.quantize_base
    titles = [duration(length.seconds) for length in found.lengths]
    columns = [list(memory_parts(one.fit.memory, one.fit.recomputed, base)) for one in found.lengths]
    rows = [
        [parts[0][0], *(size(count) for _, count, _ in parts), parts[-1][2]] for parts in zip(*columns, strict=True)
    ]
    again = [recomputed_layers(one.fit.memory, one.fit.recomputed) for one in found.lengths]
    rows.append(["layers", *again, "recomputed in the backward pass"])
    rows.append(["total", *(size(one.fit.total) for one in found.lengths), "at the peak"])
    rows.append(["", *(click.style(one.fit.verdict, fg=COLOURS[one.fit.verdict]) for one in found.lengths), ""])
    print_table(("memory", *titles, "what it is"), rows, right=titles)


def _remarks(found: Estimation) -> Iterator[str]:
    for one in found.lengths:
        if one.fit.verdict != "fits":
            yield f"\n{duration(one.seconds)}: {_advice(one.fit)}"
        if one.measured is not None:
            expected = one.fit.total - one.fit.memory.overhead
            yield (
                f"\nmeasured at {duration(one.seconds)}: {size(one.measured)}, estimated {size(expected)} "
                f"({expected / one.measured - 1:+.1%}); both without the overhead"
            )


def _advice(fit: Fit) -> str:
    if fit.change is None:
        return "nothing that sidestep knows would make it fit"
    return f"{fit.change.flags} would make it fit ({size(fit.change.total)})"


def _as_dict(found: Estimation) -> dict[str, Any]:
    plan, machine = found.plan, found.machine
    return {
        "device": machine.device,
        "precision": machine.precision,
        "free": machine.free,
        "model": plan.model.name,
        "adapter": plan.request.adapter.name,
        "trainable": plan.trainable,
        "assumed": found.assumed,
        "lengths": [_length_dict(one) for one in found.lengths],
    }


def _length_dict(one: LengthEstimate) -> dict[str, Any]:
    change = one.fit.change
    return {
        "seconds": one.seconds,
        "frames": one.frames,
        "rows": one.rows,
        "memory": memory_dict(one.fit.memory, one.fit.recomputed),
        "verdict": one.fit.verdict,
        "change": None if change is None else {"flags": change.flags, "total": change.total},
        "measured": one.measured,
    }
