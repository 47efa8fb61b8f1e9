"""Steps shared by processes: whoever computes a batch, the run is the same. Run as a script, this is one process."""

import json
import math
import sys
from pathlib import Path

import attrs
import pytest
from safetensors.torch import load_file
from sidestep_core.builtins.configs import CruiseConfig
from sidestep_core.errors import SidestepError, StoreError
from sidestep_core.events import Notice, StepsDone, StepSkipped
from sidestep_core.launch import launched
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import BEST, CHECKPOINTS, read_record
from sidestep_core.store.index import open_store
from sidestep_core.testing.launched import run_together
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training import sharing
from sidestep_core.training.loop import train
from sidestep_core.training.order import BatchPlan, Crop
from sidestep_core.training.sharing import owners

STEPS, HALF = 20, 9
WHOLE = {"train": {"epochs": 99, "max_steps": STEPS, "ema_decay": 0.9, "conditioning_dropout": 0.4}}
# 15 samples in 8 batches, in steps of 3, 3 and 2
BUCKETS = {
    "train": {**WHOLE["train"], "batch_size": 2, "accumulation": 3, "loss_weighting": "min_snr"},
    "data": {"max_latent_length": 40, "dataset_repeats": (3,)},
}
# more processes than batches
IDLE = {"train": {**WHOLE["train"], "accumulation": 1}}
# ends by itself, because nothing gets better
JUDGED = {
    "train": {**WHOLE["train"], "learning_rate": 1e-6},
    "data": {"val_split": 0.3},
    "keep": {"early_stop_patience": 2, "save_best_after": 0},
}
SAME = ("whole", "buckets", "idle", "skipping", "judged")
RUNS = {
    "whole": (WHOLE, {"timesteps": "adaptive"}),
    "buckets": (BUCKETS, {"controllers": ("cosine", "cruise"), "cruise": CruiseConfig(target_loss=2.0)}),
    "idle": (IDLE, {}),
    "skipping": (WHOLE, {}),
    "judged": (JUDGED, {}),
    "damaged": (WHOLE, {}),
    "stopped": (WHOLE, {"timesteps": "adaptive"}),
    "resumed": (WHOLE, {"timesteps": "adaptive"}),
}


def batch(micro, *lengths):
    return BatchPlan(0, micro, tuple(Crop(i, 0, length, 0) for i, length in enumerate(lengths)), sum(lengths))


def test_one_process_computes_every_batch():
    assert owners([batch(0, 50), batch(1, 60)], 1) == [0, 0]


def test_batches_of_one_length_are_dealt_out_in_turn():
    assert owners([batch(i, 50) for i in range(5)], 2) == [0, 1, 0, 1, 0]


def test_long_batches_are_balanced_by_short_ones():
    assert owners([batch(0, 90), batch(1, 30), batch(2, 30), batch(3, 30)], 2) == [0, 1, 1, 1]


def test_padding_counts_as_work():
    # 2 x 60 and 100
    assert owners([batch(0, 100), batch(1, 60, 10), batch(2, 10)], 2) == [1, 0, 1]


def test_processes_without_a_batch_own_none():
    assert owners([batch(0, 50)], 3) == [0]


def plan_of(name, checkpoint, store, run, **settings):
    tables, components = RUNS[name]
    return tiny_plan(checkpoint, store, run / name, tiny_components(**components), **tables, run=settings)


def disturbed(name):
    """Return `backward` with what goes wrong in a run: a batch without numbers, or one that the second cannot use."""
    usual = sharing.backward

    def backward(trainer, batch):
        part = usual(trainer, batch)
        if name == "skipping" and (batch.plan.step, batch.plan.micro) == (4, 1):
            return attrs.evolve(part, errors=part.errors * math.nan)
        if name == "damaged" and batch.plan.step == 4 and not launched().main:
            raise StoreError("'a song' is damaged")
        return part

    return backward


def told(event):
    return [type(event).__name__, getattr(event, "step", None), getattr(event, "loss", None)]


def follow(plan, stop=lambda: False):
    """Train, and return what was told and how it ended."""
    events, error = [], None
    try:
        events.extend(told(event) for event in train(plan, stop=stop) if not isinstance(event, Notice))
    except SidestepError as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"events": events, "error": error}


def stop_after(steps):
    """Return what asks to stop once some steps are done: it is asked before the first one and in each."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= steps


@attrs.frozen
class Compared:
    """The same runs by one process and by two: their folders, and what was told (by rank, for two)."""

    one: Path
    two: Path
    alone: dict
    together: list


@pytest.fixture(scope="module")
def compared(tmp_path_factory, tiny_checkpoint):
    root = tmp_path_factory.mktemp("shared")
    model = resolve_model(tiny_checkpoint, "base")
    lengths = [50, 64, 71, 33, 80]
    (root / "tensors").mkdir()
    store = write_noise(root / "tensors", model, frames=lengths, rows=[5, 9], latent="resample")
    alone = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in SAME:
            patch.setattr(sharing, "backward", disturbed(name))
            alone[name] = follow(plan_of(name, tiny_checkpoint, store, root / "one"))
            patch.undo()
    half = plan_of("resumed", tiny_checkpoint, store, root / "two")
    done = []
    for event in train(half, stop=lambda: len(done) == HALF):
        done.extend([event] if isinstance(event, StepsDone) else [])
    ended = run_together([__file__, tiny_checkpoint, root / "tensors", root / "two"])
    assert [one.code for one in ended] == [0, 0], ended
    return Compared(root / "one", root / "two", alone, [json.loads(one.out) for one in ended])


def distance(first, second):
    """Return the largest relative difference between two runs' tensors, over all files of the adapter."""
    ours, theirs = (load_file(folder / "final" / "small.safetensors") for folder in (first, second))
    assert ours.keys() == theirs.keys()
    return max(((ours[name] - theirs[name]).norm() / ours[name].norm()).item() for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_two_processes_train_what_one_trains(compared, name):
    assert distance(compared.one / name, compared.two / name) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_two_processes_tell_what_one_tells(compared, name):
    one, two = compared.alone[name]["events"], compared.together[0][name]["events"]
    assert [event[:2] for event in two] == [event[:2] for event in one]
    losses = [(ours[2], theirs[2]) for ours, theirs in zip(one, two, strict=True) if ours[2] is not None]
    assert losses
    assert all(math.isnan(a) if math.isnan(b) else a == pytest.approx(b, rel=1e-5) for a, b in losses)


@pytest.mark.slow
def test_a_step_that_one_process_cannot_use_is_skipped_by_all(compared):
    assert [StepSkipped.__name__, 5, None] in compared.together[0]["skipping"]["events"]


@pytest.mark.slow
def test_a_run_that_gets_no_better_is_ended_for_all(compared):
    assert read_record(compared.two / "judged")["status"] == "early-stop"
    assert (compared.two / "judged" / BEST).is_dir()
    assert compared.together[1]["judged"] == {"events": [], "error": None}


@pytest.mark.slow
def test_the_main_process_alone_tells_how_the_run_goes(compared):
    assert {len(run["events"]) for run in compared.together[1].values()} == {0}


@pytest.mark.slow
def test_an_error_of_another_process_ends_the_run_as_its_own(compared):
    first, second = (told["damaged"]["error"] for told in compared.together)
    assert (first, second) == ("StoreError: process 1 of 2: 'a song' is damaged", "StoreError: 'a song' is damaged")
    record = read_record(compared.two / "damaged")
    assert (record["status"], record["error"]) == ("failed", "process 1 of 2: 'a song' is damaged")


@pytest.mark.slow
def test_a_stop_of_any_process_stops_all_after_the_same_step(compared):
    assert compared.together[0]["stopped"]["events"][-1][:2] == ["RunFinished", HALF]
    assert read_record(compared.two / "stopped")["status"] == "stopped"
    assert [path.name for path in (compared.two / "stopped" / CHECKPOINTS).iterdir()] == [f"step_{HALF}"]


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped(compared):
    assert distance(compared.one / "whole", compared.two / "resumed") < 1e-5


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(compared, tiny_checkpoint):
    store = open_store(compared.two.parent / "tensors")
    follow(plan_of("stopped", tiny_checkpoint, store, compared.two, resume_from="latest"))
    assert distance(compared.one / "whole", compared.two / "stopped") < 1e-5


def main(checkpoint, tensors, folder):
    store, usual, results = open_store(tensors), sharing.backward, {}
    for name in RUNS:
        sharing.backward = disturbed(name)
        stops = name == "stopped" and not launched().main
        settings = {"resume_from": "latest"} if name == "resumed" else {}
        plan = plan_of(name, checkpoint, store, folder, **settings)
        results[name] = follow(plan, stop_after(HALF) if stops else lambda: False)
        sharing.backward = usual
    print(json.dumps(results))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
