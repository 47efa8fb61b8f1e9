"""`sidestep train`: an adapter from tensors."""

from __future__ import annotations

from typing import Any, cast

import attrs
import click
from sidestep_core.configs import (
    DataConfig,
    KeepConfig,
    MemoryConfig,
    ModelConfig,
    PreprocessConfig,
    PreviewConfig,
    RunConfig,
    TargetsConfig,
    TrainConfig,
)
from sidestep_core.requests import TrainRequest

from sidestep_cli.commands.preprocess import make_tensors
from sidestep_cli.display import follow, train_screen
from sidestep_cli.output import json_option
from sidestep_cli.parts import Group, Resolved, Slot
from sidestep_cli.plan_text import print_plan
from sidestep_cli.retired import TRAINING, retired_options
from sidestep_cli.session import Session, pass_session
from sidestep_cli.signals import Stop, ask_on_signals, stop_on_signals
from sidestep_cli.slots import SlotCommand

PROMISE = "this step is finished and the run saved; go on with --resume-from latest"
INLINE = ("--preprocess", "--preprocess-only")
GROUPS = (
    Group(name="model", title="Model", config=ModelConfig),
    Group(name="data", title="Data", config=DataConfig),
    Group(name="train", title="Training", config=TrainConfig),
    Group(name="targets", title="What is adapted", config=TargetsConfig),
    Group(name="memory", title="Memory", config=MemoryConfig),
    Group(name="keep", title="Validation and kept adapters", config=KeepConfig),
    Group(name="run", title="Run", config=RunConfig),
    Group(name="preview", title="Previews", config=PreviewConfig, prefix="preview"),
    Group(name="preprocess", title="Preprocessing", config=PreprocessConfig, unlocked_by=INLINE),
)
SLOTS = (
    Slot(
        name="adapter",
        title="Adapter",
        kind="adapter",
        default="lora",
        flags=("--adapter-type", "--adapter", "-a"),
        help="Adapter type to train.",
    ),
    Slot(
        name="timesteps",
        title="Timesteps",
        kind="timestep-sampler",
        default="continuous",
        flags=("--timestep-mode",),
        implied={"--adaptive-timestep-ratio": "adaptive"},
        help="How noise levels are drawn.",
    ),
    Slot(
        name="lr-control",
        title="Learning rate",
        kind="lr-controller",
        default="cosine",
        flags=("--scheduler-type",),
        more=("--lr-control",),
        implied={"--target-loss": "cruise"},
        help="Course of the learning rate.",
        more_help="Further controller of the learning rate; their factors multiply.",
    ),
    Slot(
        name="optimizer",
        title="Optimizer",
        kind="optimizer",
        default="auto",
        flags=("--optimizer-type",),
        help="Optimizer.",
    ),
    Slot(
        name="observe",
        title="Observer",
        kind="observer",
        default="progress",
        more=("--observe",),
        implied={"--log-dir": "tensorboard", "--log-heavy-every": "tensorboard"},
        more_help="Follower of the run.",
    ),
)


@click.command(cls=SlotCommand, groups=GROUPS, slots=SLOTS)
@click.option("--preset", metavar="NAME|PATH", help="Start from a preset: its name, or a .toml file.")
@click.option("--config", metavar="PATH", help="Take flags from a JSON object; those on the command line win.")
@click.option("--dry-run", is_flag=True, help="Print what would be trained, for how long and in how much memory; stop.")
@click.option(
    "--preprocess",
    is_flag=True,
    help="Make the tensors first; the options of 'sidestep preprocess' are then there too.",
)
@click.option("--preprocess-only", is_flag=True, help="Make the tensors and stop.")
@retired_options(TRAINING)
@json_option
@pass_session
def train(
    session: Session,
    settings: Resolved,
    preset: str | None,
    config: str | None,
    dry_run: bool,
    preprocess: bool,
    preprocess_only: bool,
    as_json: bool,
) -> int:
    """Train an adapter on tensors.

    The options follow the choice of components: 'sidestep train --adapter-type NAME --help' shows that type's own. A
    value on the command line wins over the preset, the preset over the default.

    \b
    sidestep train --dataset-dir my_tensors --output-dir my_lora
    sidestep train --preprocess --audio-dir my_songs --tensor-output my_tensors \\
        --output-dir my_lora

    Ctrl+C finishes the step, saves and ends; 'train ... --resume-from latest' goes on from there. 'sidestep ask' asks
    for a checkpoint or a preview while it trains, as do the signals USR1 and USR2.
    """
    with stop_on_signals(PROMISE) as stop:
        if (preprocess or preprocess_only) and not dry_run:
            tensors = settings.groups["preprocess"]
            code = make_tensors(session, tensors, settings.groups["model"], stop, as_json=as_json)
            if preprocess_only or stop() or code > 1:
                return code
        return _train(session, request_of(settings), stop, dry_run=dry_run, as_json=as_json)


def _train(session: Session, request: TrainRequest, stop: Stop, *, dry_run: bool, as_json: bool) -> int:
    plan = session.toolkit.plan(request)
    if dry_run:
        print_plan(plan, as_json=as_json)
    else:
        with ask_on_signals(plan.run):
            follow(session.toolkit.train(plan, stop=stop), train_screen(session, as_json=as_json))
    return stop.exit_code()


def request_of(settings: Resolved) -> TrainRequest:
    """Return the run that a command line with these groups and slots asks for."""
    data: DataConfig = settings.groups["data"]
    inline: PreprocessConfig | None = settings.groups.get("preprocess")
    if inline is not None and inline.tensor_output is not None and not data.dataset_dir:
        data = attrs.evolve(cast(Any, data), dataset_dir=(inline.tensor_output,))
    return TrainRequest(
        model=settings.groups["model"],
        data=data,
        train=settings.groups["train"],
        targets=settings.groups["targets"],
        memory=settings.groups["memory"],
        keep=settings.groups["keep"],
        run=settings.groups["run"],
        preview=settings.groups["preview"],
        adapter=settings.one("adapter"),
        timesteps=settings.one("timesteps"),
        controllers=settings.slots["lr-control"],
        optimizer=settings.one("optimizer"),
        observers=settings.slots.get("observe", ()),
    )
