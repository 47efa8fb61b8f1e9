"""`sidestep bench`: what was measured, as a table and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.bench.settings import BenchConfig, BenchFinished, LoopFigure, StartFigure, StepFigure
from sidestep_core.configs import ModelConfig
from sidestep_core.events import Event, Notice
from sidestep_core.settings import Settings
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]


def figure(way: str, **values: Any) -> StepFigure:
    known = {
        "seconds": 60.0,
        "adapter": True,
        "time": 2.5,
        "ratio": 1.0,
        "flops": 10**11,
        "matmul": 8.5e10,
        "share": 0.61,
    }
    return StepFigure(way=way, **{**known, **values})


DONE = BenchFinished(
    model="base, 512 wide, 8 layers",
    device="cpu",
    precision="fp32",
    clock="processor",
    threads=2,
    reference="lora",
    steps=(figure("lora"), figure("plain PEFT", adapter=False, ratio=1.25, time=3.125)),
    loops=(LoopFigure(seconds=60.0, bare=2.5, overhead=0.012),),
    starts=(StartFigure(command="sidestep --help", milliseconds=61.2),),
)


class Measured(Toolkit):
    """A toolkit that has measured already, and notes what it was asked."""

    def __init__(self, folder: Path, done: BenchFinished = DONE) -> None:
        super().__init__(settings=Settings(folder / "none.toml"))
        self.done = done
        self.asked: list[tuple[BenchConfig, ModelConfig, Mapping[str, Sequence[str]] | None]] = []

    def bench(
        self, config: BenchConfig, model: ModelConfig, *, starts: Mapping[str, Sequence[str]] | None = None
    ) -> Iterator[Event]:
        """Note the question and give the answer."""
        self.asked.append((config, model, starts))
        yield Notice(message="60 s of audio: training steps")
        yield self.done


def test_what_was_measured_is_shown_as_tables(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("bench", toolkit=Measured(tmp_path))
    assert (result.code, result.err) == (0, "60 s of audio: training steps\n")
    assert result.out.splitlines() == [
        "base, 512 wide, 8 layers; cpu, fp32, 2 threads; seconds of the processor clock",
        "matrix product: 85.0 GFLOP/s",
        "",
        "TRAINING STEP  AUDIO  SECONDS  AGAINST LORA  OF MATMUL",
        "lora            60 s   2.5000          1.00        61%",
        "plain PEFT      60 s   3.1250          1.25        61%",
        "",
        "A REAL RUN  BARE STEP   ADDS",
        "60 s           2.5000  +1.2%",
        "",
        "COMMAND          PROCESSOR TIME",
        "sidestep --help           61 ms",
    ]


def test_json_has_every_figure(run_cli: RunCli, tmp_path: Path) -> None:
    done = json.loads(run_cli("bench", "--json", toolkit=Measured(tmp_path)).out)
    assert [step["ratio"] for step in done["steps"]] == [1.0, 1.25]
    assert done["loops"] == [{"seconds": 60.0, "bare": 2.5, "overhead": 0.012}]
    assert done["starts"] == [{"command": "sidestep --help", "milliseconds": 61.2}]


def test_lengths_types_and_model_are_asked_for(run_cli: RunCli, tmp_path: Path) -> None:
    toolkit = Measured(tmp_path)
    words = ("--seconds", "60", "240", "--adapter-types", "lokr", "oft", "--rounds", "3", "-c", "models", "-M", "base")
    assert run_cli("bench", *words, toolkit=toolkit).code == 0
    [(config, model, starts)] = toolkit.asked
    assert (config.seconds, config.adapter_types, config.rounds) == ((60.0, 240.0), ("lokr", "oft"), 3)
    assert (model.checkpoint_dir, model.model) == (Path("models"), "base")
    assert starts is not None
    assert {command[:3] for command in starts.values()} == {(sys.executable, "-m", "sidestep_cli")}


@pytest.mark.parametrize(("speed", "shown"), [(2.5e9, "2.5 GFLOP/s"), (3.12e14, "312.0 TFLOP/s")])
def test_speeds_are_told_in_their_unit(run_cli: RunCli, tmp_path: Path, speed: float, shown: str) -> None:
    done = attrs.evolve(DONE, steps=(figure("lora", matmul=speed),))
    assert f"matrix product: {shown}\n" in run_cli("bench", toolkit=Measured(tmp_path, done)).out


@pytest.mark.slow
def test_a_small_machine_is_measured_in_earnest(run_cli: RunCli) -> None:
    small = ("--seconds", "1", "--rounds", "1", "--hidden", "64", "--layers", "2", "--device", "cpu")
    result = run_cli("bench", *small, "--json")
    assert result.code == 0
    done = json.loads(result.out)
    assert [step["way"] for step in done["steps"]] == [
        *("lora", "dora", "loha", "lokr", "oft"),
        *("plain PEFT", "Side-Step's settings"),
    ]
    assert [start["command"] for start in done["starts"]] == [
        "sidestep --help",
        "sidestep plugins list",
        "sidestep train --dry-run",
    ]
