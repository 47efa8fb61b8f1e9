"""`sidestep bench`: how fast training is on this machine, and what takes the time."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import attrs
import click
from sidestep_core.bench.settings import BenchConfig, BenchFinished, StepFigure
from sidestep_core.configs import ModelConfig
from sidestep_core.events import Event, Notice

from sidestep_cli.display import note_line
from sidestep_cli.output import json_option, print_json, print_table
from sidestep_cli.parts import Group, Resolved
from sidestep_cli.session import Session, pass_session
from sidestep_cli.slots import SlotCommand

PROGRAM = (sys.executable, "-m", "sidestep_cli")
# what is typed, and what it stands for
STARTS: Mapping[str, tuple[str, ...]] = {
    "sidestep --help": ("--help",),
    "sidestep plugins list": ("plugins", "list"),
    "sidestep train --dry-run": ("train", "-c", "{checkpoints}", "-d", "{tensors}", "-o", "{run}", "--dry-run"),
}


@click.command(
    cls=SlotCommand,
    groups=(
        Group(name="bench", title="What is measured", config=BenchConfig),
        Group(name="model", title="Model", config=ModelConfig),
    ),
)
@json_option
@pass_session
def bench(session: Session, settings: Resolved, as_json: bool) -> None:
    """Measure how fast training is on this machine.

    A training step (forward, backward, optimizer) with each adapter type and as other trainers take it, each against
    a matrix product in the same rounds; what a real run adds to a step; and commands that should come back at once.
    A small model is made for it unless --checkpoint-dir or --model names one.

    \b
    sidestep bench
    sidestep bench --checkpoint-dir ./checkpoints --model base --seconds 60 240
    """
    starts = {shown: (*PROGRAM, *args) for shown, args in STARTS.items()}
    for event in session.toolkit.bench(settings.groups["bench"], settings.groups["model"], starts=starts):
        _show(event, as_json=as_json)


def _show(event: Event, *, as_json: bool) -> None:
    if isinstance(event, Notice):
        click.echo(note_line(event), err=True)
    if isinstance(event, BenchFinished) and as_json:
        print_json(attrs.asdict(event))
    elif isinstance(event, BenchFinished):
        _print(event)


def _print(done: BenchFinished) -> None:
    threads = f", {done.threads} threads" if done.device == "cpu" and done.threads > 1 else ""
    click.echo(f"{done.model}; {done.device}, {done.precision}{threads}; seconds of the {done.clock} clock")
    click.echo(f"matrix product: {_speed(max(figure.matmul for figure in done.steps))}\n")
    steps = (f"against {done.reference}", "of matmul")
    print_table(
        ("training step", "audio", "seconds", *steps),
        [_step_row(figure) for figure in done.steps],
        right=("audio", "seconds", *steps),
    )
    click.echo()
    rows = [(f"{loop.seconds:g} s", f"{loop.bare:.4f}", f"{loop.overhead:+.1%}") for loop in done.loops]
    print_table(("a real run", "bare step", "adds"), rows, right=("bare step", "adds"))
    if done.starts:
        click.echo()
        rows_of_starts = [(start.command, f"{start.milliseconds:.0f} ms") for start in done.starts]
        print_table(("command", "processor time"), rows_of_starts, right=("processor time",))


def _step_row(figure: StepFigure) -> tuple[str, ...]:
    return (figure.way, f"{figure.seconds:g} s", f"{figure.time:.4f}", f"{figure.ratio:.2f}", f"{figure.share:.0%}")


def _speed(flops: float) -> str:
    return f"{flops / 1e12:.1f} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:.1f} GFLOP/s"
