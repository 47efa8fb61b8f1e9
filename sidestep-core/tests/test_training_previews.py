"""Previews of a run: what is made and when, that nothing else notices, and that no failure of theirs ends a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from sidestep_core.errors import CheckpointError, ConfigError
from sidestep_core.events import Event, Notice, PreviewMade, RunFinished, RunStarted, StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.plan import TrainPlan
from sidestep_core.store.index import TensorStore
from sidestep_core.testing.tiny_run import SmallConfig, tiny_components, tiny_plan, write_noise
from sidestep_core.training import loop, previews
from sidestep_core.training.loop import train

MakePlan = Callable[..., TrainPlan]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> TensorStore:
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64, 71], rows=[5, 9])


@pytest.fixture
def plan(tmp_path: Path, tiny_checkpoint: Path, store: TensorStore) -> MakePlan:
    """Return a function that plans a run of six steps in three epochs, with much dropout, in a folder of a name."""

    def make(folder: str = "run", *, optimizer: str = "adamw", **tables: Any) -> TrainPlan:
        components = tiny_components(optimizer=optimizer, small=SmallConfig(dropout=0.3))
        return tiny_plan(tiny_checkpoint, store, tmp_path / folder, components=components, **tables)

    return make


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def names(plan: TrainPlan) -> list[str]:
    root = plan.run / "previews"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.flac"))


def note(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found


def broken(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("no room\nfor many lines")


# What is made, and when


def test_a_run_makes_none_unless_it_is_told_to(plan: MakePlan) -> None:
    made = plan()
    assert of(PreviewMade, list(train(made))) == []
    assert not (made.run / "previews").exists()


@pytest.mark.parametrize(
    ("every", "every_steps", "steps"),
    [(1, 0, [2, 4, 6]), (2, 0, [4, 6]), (0, 3, [3, 6]), (0, 4, [4, 6]), (2, 3, [3, 4, 6]), (99, 0, [6])],
)
def test_they_come_every_few_epochs_or_steps_and_at_the_end(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch, every: int, every_steps: int, steps: list[int]
) -> None:
    monkeypatch.setattr(previews, "decode", lambda model, latents, device: [one.numpy() for one in latents])
    monkeypatch.setattr(previews, "write_audio", lambda *args: None)
    made = plan(preview={"every": every, "every_steps": every_steps, "steps": 1})
    assert [event.step for event in of(PreviewMade, list(train(made)))] == steps


def test_there_is_one_with_the_adapter_each_time_and_one_without_it_in_all(plan: MakePlan) -> None:
    made = plan(preview={"every": 1})
    events = of(PreviewMade, list(train(made)))
    off, on = "without_adapter/1_song_0.flac", [f"step_{step}/1_song_0.flac" for step in (2, 4, 6)]
    assert names(made) == [*on, off]
    root = made.run / "previews"
    assert [event.paths for event in events] == [(root / off, root / on[0]), (root / on[1],), (root / on[2],)]
    assert [(event.step, event.epoch) for event in events] == [(2, 1), (4, 2), (6, 3)]


def test_they_are_flac_files_of_the_length_asked_for(plan: MakePlan) -> None:
    made = plan(preview={"every": 3, "seconds": 1.31})
    list(train(made))
    info = soundfile.info(made.run / "previews" / "step_6" / "1_song_0.flac")
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 48_000, 2, round(1.31 * 48_000))


def test_all_that_was_asked_for_stands_beside_them(plan: MakePlan) -> None:
    made = plan(preview={"every": 3, "seed": 7, "guidance": 4.0})
    list(train(made))
    told = note(made.run / "previews" / "step_6" / "1_song_0.flac")
    asked = {"song": "song 0.wav", "seed": 7, "steps": 2, "guidance": 4.0, "shift": 3.0, "seconds": 1.0}
    place = {"run": "tiny", "step": 6, "epoch": 3, "adapter": True, "model": "acestep-v15-base", "precision": "float32"}
    assert asked.items() | place.items() <= told.items()
    assert {"prompt", "lyrics", "peak"} <= told.keys()


def test_what_was_learned_is_heard(plan: MakePlan) -> None:
    made = plan(preview={"every": 1})
    list(train(made))
    root = made.run / "previews"
    sounds = {(root / name).read_bytes() for name in names(made)}
    assert len(sounds) == 4  # at each step another one, and none as without the adapter


def test_the_same_weights_sound_the_same_in_every_run(plan: MakePlan) -> None:
    one, two = plan("one", preview={"every": 3}), plan("two", preview={"every": 3})
    for made in (one, two):
        list(train(made))
    assert names(one) == names(two)
    assert all((one.run / "previews" / n).read_bytes() == (two.run / "previews" / n).read_bytes() for n in names(one))


def test_without_the_comparison_only_the_adapter_is_heard(plan: MakePlan) -> None:
    made = plan(preview={"every": 3, "compare": False})
    list(train(made))
    assert names(made) == ["step_6/1_song_0.flac"]


def test_an_adapter_that_learned_nothing_sounds_as_none(plan: MakePlan) -> None:
    made = plan(train={"learning_rate": 1e-30}, preview={"every": 3})
    list(train(made))
    on, off = (made.run / "previews" / folder / "1_song_0.flac" for folder in ("step_6", "without_adapter"))
    assert on.read_bytes() == off.read_bytes()


@pytest.mark.parametrize(("optimizer", "decay"), [("adamw", 0.9), ("schedule_free", 0.0)])
def test_they_use_the_weights_that_the_run_gives_away(plan: MakePlan, optimizer: str, decay: float) -> None:
    made = plan(optimizer=optimizer, train={"ema_decay": decay}, preview={"every": 3})
    seen = {}

    def watched(decoder: Any, *args: Any) -> torch.Tensor:
        parameters = {name: value for name, value in decoder.named_parameters() if "down" in name or "up" in name}
        seen.update({name.replace("transformer.", ""): value.clone() for name, value in parameters.items()})
        return torch.zeros(25, 64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(previews, "sample", watched)
        list(train(made))
    from safetensors.torch import load_file

    given = load_file(made.run / "final" / "small.safetensors")
    assert sorted(seen["layers.0.self_attn.to_q.down"].flatten().tolist()) == sorted(
        given["layers.0.self_attn.q_proj.down"].flatten().tolist()
    )


# What they are made with


def test_the_first_song_that_is_held_out_comes_first(plan: MakePlan) -> None:
    made = plan(data={"val_split": 0.34})
    assert [song.name for song in made.previewed] == [made.held_out[0].name]


def test_songs_can_be_named(plan: MakePlan) -> None:
    made = plan(preview={"songs": ("song 2.wav", "song 1.wav"), "every": 3, "compare": False})
    list(train(made))
    assert names(made) == ["step_6/1_song_2.flac", "step_6/2_song_1.flac"]


def test_a_song_that_is_not_there_is_refused_before_anything_is_written(plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no song 'song 0' among the 3 of this run; did you mean 'song 0.wav'\?"):
        plan(preview={"songs": ("song 0",)})
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_takes_the_place_of_songs(plan: MakePlan) -> None:
    made = plan(preview={"prompt": "warm hip hop", "lyrics": "soft notes", "every": 3, "compare": False})
    list(train(made))
    assert names(made) == ["step_6/1_prompt.flac"]
    told = note(made.run / "previews" / "step_6" / "1_prompt.flac")
    assert "# Caption\nwarm hip hop\n" in told["prompt"]
    assert "# Lyric\nsoft notes<|endoftext|>" in told["lyrics"]


def test_a_prompt_and_songs_are_heard_together(plan: MakePlan) -> None:
    made = plan(preview={"prompt": "warm hip hop", "songs": ("song 1.wav",), "every": 3, "compare": False})
    list(train(made))
    assert names(made) == ["step_6/1_song_1.flac", "step_6/2_prompt.flac"]


def test_the_encoders_are_loaded_once_and_before_the_model(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    encode, setup = loop.make_pieces, loop.make_setup
    monkeypatch.setattr(loop, "make_pieces", lambda *args: (order.append("pieces"), encode(*args))[1])
    monkeypatch.setattr(loop, "make_setup", lambda *args, **how: (order.append("setup"), setup(*args, **how))[1])
    list(train(plan(preview={"prompt": "warm hip hop", "every": 1, "steps": 1})))
    assert order == ["pieces", "setup"]


def test_a_prompt_without_a_text_encoder_is_refused_before_training(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(preview={"prompt": "warm hip hop"})
    monkeypatch.setattr("sidestep_core.model.folder.TEXT_ENCODER", "not-there")
    with pytest.raises(CheckpointError, match="text encoder"):
        list(train(made))
    assert not made.run.exists()


# Nothing else notices


def test_the_adapter_is_the_same_to_the_byte_with_and_without_them(plan: MakePlan) -> None:
    without, with_them = plan("without"), plan("with", preview={"every_steps": 2})
    for made in (without, with_them):
        list(train(made))
    for file in ("final/small.safetensors", "checkpoints/step_6/optimizer.safetensors"):
        assert (with_them.run / file).read_bytes() == (without.run / file).read_bytes()


@pytest.mark.parametrize(("optimizer", "decay"), [("adamw", 0.9), ("schedule_free", 0.0)])
def test_averages_are_the_same_to_the_byte(plan: MakePlan, optimizer: str, decay: float) -> None:
    tables = {"train": {"ema_decay": decay}}
    without = plan("without", optimizer=optimizer, **tables)
    with_them = plan("with", optimizer=optimizer, **tables, preview={"every_steps": 3, "steps": 1})
    for made in (without, with_them):
        list(train(made))
    last = "checkpoints/step_6"
    files = sorted(path.relative_to(without.run) for path in (without.run / last).rglob("*.safetensors"))
    assert len(files) >= 3
    assert all((with_them.run / file).read_bytes() == (without.run / file).read_bytes() for file in files)


def test_random_state_gradients_and_modes_are_left_as_they_were(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[Any, ...]] = []
    made_one = previews.Previews._make

    def state(it: Any) -> tuple[Any, ...]:
        trainer = it._state.trainer
        weights = [(id(p), p.data_ptr(), p.requires_grad, p.grad is None) for p in trainer.parameters]
        modules = [(name, id(module), module.training) for name, module in trainer.decoder.named_modules()]
        return torch.get_rng_state().tolist(), weights, modules, torch.is_grad_enabled(), torch.get_default_dtype()

    def watched(it: Any) -> PreviewMade:
        before = state(it)
        event = made_one(it)
        states.append((before, state(it)))
        return event

    monkeypatch.setattr(previews.Previews, "_make", watched)
    list(train(plan(preview={"every": 1, "prompt": "warm hip hop", "steps": 1})))
    assert len(states) == 3
    assert all(before == after for before, after in states)


def test_a_run_that_goes_on_keeps_the_one_without_the_adapter(plan: MakePlan) -> None:
    first = plan(train={"max_steps": 4}, preview={"every": 2})
    list(train(first))
    off = first.run / "previews" / "without_adapter" / "1_song_0.flac"
    before = off.stat().st_mtime_ns
    more = plan(preview={"every": 1}, run={"resume_from": "latest"})
    made = of(PreviewMade, list(train(more)))
    assert [[path.parent.name for path in event.paths] for event in made] == [["step_6"]]
    assert off.stat().st_mtime_ns == before


def test_other_settings_make_the_one_without_the_adapter_anew(plan: MakePlan) -> None:
    list(train(plan(train={"max_steps": 4}, preview={"every": 2})))
    more = plan(preview={"every": 1, "seed": 9}, run={"resume_from": "latest"})
    made = of(PreviewMade, list(train(more)))
    assert [path.parent.name for path in made[0].paths] == ["without_adapter", "step_6"]
    assert note(made[0].paths[0])["seed"] == 9


def test_previews_may_change_on_resume(plan: MakePlan) -> None:
    list(train(plan(train={"max_steps": 2})))
    more = plan(preview={"every": 1, "seconds": 2.0}, run={"resume_from": "latest"})
    assert of(RunFinished, list(train(more)))[0].step == 6


def test_the_record_has_them(plan: MakePlan) -> None:
    made = plan(preview={"every": 2})
    list(train(made))
    record = json.loads((made.run / "run.json").read_text())
    assert record["request"]["preview"]["every"] == 2


# Failures


@pytest.fixture
def failing(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> TrainPlan:
    monkeypatch.setattr(previews, "decode", broken)
    return plan(preview={"every_steps": 1, "steps": 1})


def test_one_that_fails_is_a_warning_and_the_run_ends_as_it_would(failing: TrainPlan) -> None:
    events = list(train(failing))
    assert of(RunFinished, events)[0].reason == "complete"
    assert [event.step for event in of(StepsDone, events)] == [1, 2, 3, 4, 5, 6]
    first = of(Notice, events)[0]
    assert (first.message, first.warning) == ("no preview of step 1: no room; training goes on", True)


def test_after_three_in_a_row_failures_are_no_longer_told(failing: TrainPlan) -> None:
    told = [event.message for event in of(Notice, list(train(failing)))]
    assert len(told) == 3
    assert told[-1] == (
        "no preview of step 3: no room; training goes on. "
        "That was number 3 in a row: more of them are tried, but not told"
    )


def test_one_that_works_again_is_told_and_so_is_the_next_failure(
    plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = iter(range(6))
    decode = previews.decode
    monkeypatch.setattr(previews, "decode", lambda *args: decode(*args) if next(attempts) == 4 else broken())
    events = list(train(plan(preview={"every_steps": 1, "steps": 1})))
    assert [event.step for event in of(PreviewMade, events)] == [5]
    assert [event.message.partition(":")[0] for event in of(Notice, events)] == [
        f"no preview of step {step}" for step in (1, 2, 3, 6)
    ]


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("decode", "write_audio", "is_audio_of")]


@pytest.mark.parametrize("place", ["sample", "final_weights", *SLOWER])
def test_no_failure_anywhere_changes_the_adapter(plan: MakePlan, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    good, bad = plan("good"), plan("bad", preview={"every_steps": 3, "steps": 1})
    list(train(good))
    monkeypatch.setattr(previews, place, broken)
    assert of(PreviewMade, list(train(bad))) == []
    assert (bad.run / "final" / "small.safetensors").read_bytes() == (
        good.run / "final" / "small.safetensors"
    ).read_bytes()


def test_a_conditioning_that_is_gone_costs_the_preview_alone(tmp_path: Path, tiny_checkpoint: Path) -> None:
    own = write_noise(tmp_path / "own", resolve_model(tiny_checkpoint, "base"), frames=[50, 64], rows=[5])
    made = tiny_plan(tiny_checkpoint, own, tmp_path / "run", preview={"every": 3})
    events = []
    for event in train(made):
        events.append(event)
        if isinstance(event, RunStarted):  # what is trained on is in memory by now
            own.conditioning_file(own.songs[0]).unlink()
    assert of(RunFinished, events)[0].reason == "complete"
    (warning,) = of(Notice, events)
    assert warning.message.startswith("no preview of step 3: ")
    assert "is missing" in warning.message


def test_ctrl_c_is_no_failure(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(previews, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(train(plan(preview={"every": 1})))
