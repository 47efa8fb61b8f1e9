"""A run that is asked for something while it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.asking import FOLDER, ask
from sidestep_core.events import CheckpointSaved, Event, Notice, PreviewMade, RunFinished, RunStarted, StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.plan import TrainPlan
from sidestep_core.runs import read_run
from sidestep_core.testing.tiny_run import tiny_plan, write_noise
from sidestep_core.training import previews
from sidestep_core.training.loop import train

MakePlan = Callable[..., TrainPlan]


@pytest.fixture
def plan(tmp_path: Path, tiny_checkpoint: Path) -> MakePlan:
    """Return a function that plans a run of six steps that saves at the end alone."""
    store = write_noise(tmp_path / "store", resolve_model(tiny_checkpoint, "base"), frames=[30, 30, 30], rows=[5])

    def make(folder: str = "run", **tables: Any) -> TrainPlan:
        return tiny_plan(tiny_checkpoint, store, tmp_path / folder, **{"preview": {"steps": 1}, **tables})

    return make


def told(plan: TrainPlan, **wishes: str) -> list[Event]:
    """Train, and ask for things as soon as a step was reported: `step_2="save"`."""
    events = []
    for event in train(plan):
        events.append(event)
        if isinstance(event, StepsDone) and (wish := wishes.get(f"step_{event.step}")):
            ask(plan.run, wish)  # type: ignore[arg-type]
    return events


def steps_of(kind: type[Event], events: list[Event]) -> list[int]:
    return [event.step for event in events if isinstance(event, kind)]  # type: ignore[attr-defined]


def test_it_saves_when_it_is_asked_to(plan: MakePlan) -> None:
    made = plan()
    events = told(made, step_3="save")
    assert steps_of(CheckpointSaved, events) == [3, 6]
    assert (made.run / "checkpoints" / "step_3" / "state.json").is_file()


def test_it_makes_a_preview_when_it_is_asked_to_though_none_are_due(plan: MakePlan) -> None:
    made = plan()
    events = told(made, step_2="preview")
    assert steps_of(PreviewMade, events) == [2]
    assert (made.run / "previews" / "step_2" / "1_song_0.flac").is_file()


def test_it_stops_when_it_is_asked_to_and_goes_on_from_there(plan: MakePlan) -> None:
    whole, made = plan("whole"), plan()
    list(train(whole))
    events = told(made, step_4="stop")
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.step, finished.reason) == (4, "stopped")
    run = read_run(made.run)
    assert run is not None
    assert run.status == "stopped"
    list(train(plan(run={"resume_from": "latest"})))
    final = Path("final") / "small.safetensors"
    assert (made.run / final).read_bytes() == (whole.run / final).read_bytes()


def test_asking_to_stop_in_the_last_step_changes_nothing(plan: MakePlan) -> None:
    (finished,) = [event for event in told(plan(), step_6="stop") if isinstance(event, RunFinished)]
    assert finished.reason == "complete"


def test_being_asked_changes_no_byte_of_the_adapter(plan: MakePlan) -> None:
    quiet, asked = plan("quiet"), plan("asked")
    list(train(quiet))
    told(asked, step_1="save", step_2="preview", step_4="save", step_5="preview")
    final = Path("final") / "small.safetensors"
    assert (asked.run / final).read_bytes() == (quiet.run / final).read_bytes()


def test_it_can_be_asked_from_its_first_event_to_its_last(plan: MakePlan) -> None:
    made = plan()
    for event in train(made):
        if isinstance(event, RunStarted):
            assert (made.run / FOLDER).is_dir()
    assert not (made.run / FOLDER).exists()


def test_a_wish_of_a_run_that_died_is_not_that_of_the_next(plan: MakePlan) -> None:
    made = plan()
    going = train(made)
    for event in going:
        if isinstance(event, StepsDone):
            break
    ask(made.run, "stop")
    going.close()  # type: ignore[attr-defined]
    (made.run / FOLDER).mkdir()
    (made.run / FOLDER / "stop").touch()
    events = list(train(plan("other")))
    assert steps_of(RunFinished, events) == [6]
    (made.run / "run.json").unlink()
    assert steps_of(RunFinished, list(train(plan()))) == [6]


def test_a_preview_that_was_asked_for_is_told_of_however_often_it_failed(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise OSError("no room")

    monkeypatch.setattr(previews, "decode", broken)
    events = told(plan(preview={"every_steps": 1, "steps": 1}), step_5="preview")
    warned = [event.message for event in events if isinstance(event, Notice)]
    assert [message.partition(":")[0] for message in warned] == [f"no preview of step {s}" for s in (1, 2, 3, 5)]
