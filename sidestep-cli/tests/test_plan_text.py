"""The plan of a run as `train --dry-run` prints it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_cli.plan_text import print_plan
from sidestep_core.configs import DataConfig, KeepConfig, MemoryConfig, ModelConfig, RunConfig, TrainConfig
from sidestep_core.plan import TrainPlan
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.toolkit import Toolkit

MakePlan = Callable[..., TrainPlan]
Print = Callable[[TrainPlan], dict[str, str]]


@pytest.fixture
def make_plan(tensors: Path, tiny_checkpoint: Path, tmp_path: Path) -> MakePlan:
    """Return a function that plans a run; it takes the fields of a `TrainRequest` and of its train and data configs."""
    toolkit = Toolkit(settings=Settings(tmp_path / "settings.toml"))
    # as the command line gives it: with its settings
    lora = Choice(name="lora", config=toolkit.registry("adapter")["lora"].config())

    def make(*, train: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **fields: Any) -> TrainPlan:
        return toolkit.plan(
            TrainRequest(
                model=ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu"),
                data=DataConfig(dataset_dir=(tensors,), **(data or {})),
                train=TrainConfig(**(train or {})),
                run=RunConfig(output_dir=tmp_path / "run", run_name="mine"),
                **{"adapter": lora, **fields},
            )
        )

    return make


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Print:
    """Return a function that prints a plan and returns its lines by their first word or two."""

    def show(plan: TrainPlan) -> dict[str, str]:
        print_plan(plan, as_json=False)
        lines = [line for line in capsys.readouterr().out.splitlines() if line]
        # facts and the memory table share names: what comes first is the fact, the other is marked
        found: dict[str, str] = {}
        for line in lines:
            name, _, rest = line.partition("  ")
            found[name if name not in found else f"memory {name}"] = " ".join(rest.split())
        return found

    return show


def test_it_says_what_is_trained_on_what(make_plan: MakePlan, printed: Print) -> None:
    lines = printed(make_plan())
    assert lines["run"].startswith("mine in ")
    assert lines["data"].startswith("3 songs, 3.9 s, from ")
    assert lines["trained"].endswith("parameters on 44 projections")
    assert lines["timesteps"] == "continuous"


def test_steps_and_schedule_follow_the_settings(make_plan: MakePlan, printed: Print) -> None:
    lines = printed(make_plan(train={"epochs": 20, "batch_size": 2, "accumulation": 1, "learning_rate": 1e-4}))
    assert lines["epochs"] == "20 of 2 steps over 3 samples"
    assert lines["steps"] == "40 of 2 x 1 samples"
    assert lines["rate"] == "0.0001, cosine, 4 warm-up"


def test_factors_of_several_controllers_are_shown_as_a_product(make_plan: MakePlan, printed: Print) -> None:
    plan = make_plan(controllers=(Choice(name="cosine"), Choice(name="constant")))
    assert printed(plan)["rate"] == "0.0003, cosine x constant, 100 warm-up"


def test_crops_are_shown(make_plan: MakePlan, printed: Print) -> None:
    assert ", in crops of at most 1:00 min, from " in printed(make_plan(data={"chunk_duration": 60}))["data"]


def test_every_kind_of_projection_has_a_line(make_plan: MakePlan, printed: Print) -> None:
    lines = printed(make_plan())
    kinds = [name for name in lines if name.startswith(("self_attn.", "cross_attn.", "mlp."))]
    assert kinds == [
        *(f"{block}.{name}_proj" for block in ("self_attn", "cross_attn") for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    ]
    assert lines["mlp.down_proj"] == "4 64 x 192 64"


@pytest.mark.parametrize(("ranks", "shown"), [((8, 8, 8, 8), "8"), ((8, 32, 16, 8), "8 to 32"), ((None,) * 4, "64")])
def test_ranks_of_their_own_are_shown(
    make_plan: MakePlan, printed: Print, ranks: tuple[int | None, ...], shown: str
) -> None:
    plan = make_plan()
    kind = "self_attn.q_proj"
    own = [
        attrs.evolve(target, rank=rank)
        for target, rank in zip([t for t in plan.targets if t.name.endswith(kind)], ranks, strict=True)
    ]
    assert printed(attrs.evolve(plan, targets=tuple(own)))[kind] == f"4 64 x 64 {shown}"


@pytest.mark.parametrize(
    ("memory", "layers", "total"),
    [
        ({}, "0 of 4", "where memory is short"),
        ({"gradient_checkpointing": False}, "0 of 4", "as --gradient-checkpointing says"),
        ({"gradient_checkpointing": True}, "4 of 4", "as --gradient-checkpointing says"),
        ({"gradient_checkpointing_ratio": 0.5}, "2 of 4", "as --gradient-checkpointing says"),
        ({"block_swap": 3}, "3 of 4", "where memory is short"),
    ],
)
def test_memory_says_how_many_layers_are_recomputed(
    make_plan: MakePlan, printed: Print, memory: dict[str, Any], layers: str, total: str
) -> None:
    lines = printed(make_plan(memory=MemoryConfig(**memory)))
    assert lines["layers"].startswith(layers)
    assert total in lines["total"]


def test_memory_says_how_the_base_is_kept(make_plan: MakePlan, printed: Print) -> None:
    lines = printed(make_plan(memory=MemoryConfig(quantize_base="nf4", block_swap=2)))
    assert lines["memory model"].endswith("frozen, projections in nf4, 2 of 4 layers wait in main memory")


def test_parts_of_the_memory_add_up(make_plan: MakePlan) -> None:
    memory = make_plan().memory
    assert memory.weights + memory.adapter + memory.overhead < memory.total(0)


@pytest.mark.parametrize(
    ("keep", "data", "kept"),
    [
        ({}, {}, "the last adapter; the best by smoothed loss after epoch 200"),
        ({"save_best_after": 0}, {"val_split": 0.4}, "the last adapter; the best by validation"),
        ({"save_best_after": 1001}, {}, "the last adapter"),
        ({"save_best": False, "early_stop_patience": 1}, {}, "the last adapter; ends after 1 epoch without a new best"),
        (
            {"save_best": False, "loss_milestones": (0.5, 0.4)},
            {"val_split": 0.4},
            "the last adapter; those at validation 0.5, 0.4",
        ),
    ],
    ids=str,
)
def test_it_says_what_is_kept(
    make_plan: MakePlan, printed: Print, keep: dict[str, Any], data: dict[str, Any], kept: str
) -> None:
    assert printed(make_plan(keep=KeepConfig(**keep), data=data))["kept"] == kept


def test_a_run_that_goes_on_says_from_where(make_plan: MakePlan, printed: Print, tmp_path: Path) -> None:
    plan = attrs.evolve(make_plan(), resume=tmp_path / "step_5")
    assert printed(plan)["goes on from"] == str(tmp_path / "step_5")


def test_an_adapter_that_cannot_count_is_planned_all_the_same(make_plan: MakePlan, printed: Print) -> None:
    plan = attrs.evolve(make_plan(), trainable=None)
    assert printed(plan)["trained"] == "not known before it is built on 44 projections"


def test_notices_are_warnings_on_stderr(make_plan: MakePlan, capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(attrs.evolve(make_plan(), notices=("made with another model",)), as_json=False)
    assert capsys.readouterr().err == "warning: made with another model\n"
