"""Event files for TensorBoard, read back with its own reader."""

import math

import attrs
import pytest
from sidestep_core.builtins.configs import TensorBoardConfig
from sidestep_core.builtins.plugin import sidestep_observers
from sidestep_core.errors import LoadError
from sidestep_core.events import CheckpointSaved, EpochDone, RunFinished, RunStarted, StepsDone, Validated
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Chosen
from sidestep_core.settings import Settings
from sidestep_core.specs import BuildContext
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.toolkit import Toolkit
from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, SCALARS, EventAccumulator

(SPEC,) = [spec for spec in sidestep_observers() if spec.name == "tensorboard"]
BANDS = (0.5, float("nan"), *(0.25,) * 8)


def started(run, step=0):
    return RunStarted(run=run, step=step, total_steps=40, epochs=4, steps_per_epoch=10, songs=5, trainable=99)


def steps_done(step, loss=0.5, samples=(3, 0, *(1,) * 8), **extra):
    return StepsDone(
        step=step,
        total_steps=40,
        epoch=1,
        epochs=4,
        loss=loss,
        smoothed=0.625,
        learning_rate=0.125,
        grad_norm=0.75,
        steps_per_second=2.0,
        memory=1024,
        extra=extra,
        bands=BANDS if samples else (),
        samples=samples,
    )


@pytest.fixture
def follow(tmp_path):
    """Show events to an observer of a run in `tmp_path / name`, and close it."""

    def show(*events, run="run", **settings):
        observer = SPEC.build(TensorBoardConfig(**settings), BuildContext(run=tmp_path / run))
        for event in events:
            observer.observe(event)
        observer.close()
        return tmp_path / run / "runs"

    return show


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={HISTOGRAMS: 0, SCALARS: 0})
    accumulator.Reload()
    return accumulator


def values(folder, tag):
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_a_step_is_there_under_the_tags_of_old(follow, tmp_path):
    folder = follow(started(tmp_path), steps_done(10, target_loss_scale=0.25, target_loss_ema=0.875))
    expected = {"train/loss": 0.5, "train/lr": 0.125, "target_loss_scale": 0.25, "target_loss_ema": 0.875}
    assert {tag: values(folder, tag) for tag in expected} == {tag: [(10, v)] for tag, v in expected.items()}


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("train/smoothed_loss", 0.625),
        ("train/grad_norm", 0.75),
        ("train/steps_per_second", 2.0),
        ("train/memory", 1024),
        ("loss_by_timestep/0.0-0.1", 0.5),
        ("loss_by_timestep/0.9-1.0", 0.25),
    ],
)
def test_what_else_a_step_tells_is_there(follow, tmp_path, tag, value):
    assert values(follow(started(tmp_path), steps_done(10)), tag) == [(10, value)]


def test_gradient_norms_of_tensors_are_there_when_they_are_reported(follow, tmp_path):
    events = steps_done(10), attrs.evolve(steps_done(20), gradients={"layers.0.q_proj.down": 0.25})
    assert values(follow(started(tmp_path), *events), "grad_norm/layers.0.q_proj.down") == [(20, 0.25)]


def test_epochs_and_validations_are_counted_by_step_too(follow, tmp_path):
    folder = follow(
        started(tmp_path),
        EpochDone(epoch=1, epochs=4, step=10, loss=0.5, seconds=1.0),
        Validated(step=10, epoch=1, loss=0.375, bands=BANDS, seconds=1.0),
    )
    assert values(folder, "train/epoch_loss") == [(10, 0.5)]
    assert values(folder, "val_loss") == [(10, 0.375)]
    assert values(folder, "val_loss_by_timestep/0.2-0.3") == [(10, 0.25)]


def test_numbers_that_are_not_finite_are_left_out(follow, tmp_path):
    folder = follow(started(tmp_path), steps_done(10, loss=float("nan")), steps_done(20))
    assert values(folder, "train/loss") == [(20, 0.5)]
    assert "loss_by_timestep/0.1-0.2" not in read(folder).Tags()["scalars"]


def test_timesteps_are_a_histogram_from_0_to_1(follow, tmp_path):
    (event,) = read(follow(started(tmp_path), steps_done(10))).Histograms("train/timestep_distribution")
    found = event.histogram_value
    assert (event.step, found.min, found.max, found.num) == (10, 0.0, 1.0, 11)
    counts = dict(zip((round(limit, 1) for limit in found.bucket_limit), found.bucket, strict=True))
    assert counts == {0.1: 3, 0.2: 0, **{round(0.3 + i / 10, 1): 1 for i in range(8)}}
    assert found.sum == pytest.approx(3 * 0.05 + sum(0.25 + i / 10 for i in range(8)))


@pytest.mark.parametrize("samples", [(), (0,) * 10])
def test_without_samples_there_is_no_histogram(follow, tmp_path, samples):
    folder = follow(started(tmp_path), steps_done(10, samples=samples))
    assert read(folder).Tags()["histograms"] == []


def test_a_resumed_run_goes_on_in_the_same_folder_without_double_points(follow, tmp_path):
    epoch = EpochDone(epoch=2, epochs=4, step=20, loss=0.9, seconds=1.0)
    follow(started(tmp_path), *(steps_done(n, loss=1.0) for n in (10, 20, 30)), epoch)
    folder = follow(started(tmp_path, step=10), *(steps_done(n, loss=0.5) for n in (20, 30, 40)))
    assert len(list(folder.glob("events.*"))) == 2
    assert values(folder, "train/loss") == [(10, 1.0), (20, 0.5), (30, 0.5), (40, 0.5)]
    assert values(folder, "train/epoch_loss") == []
    assert [event.step for event in read(folder).Histograms("train/timestep_distribution")] == [10, 20, 30, 40]


def test_runs_share_a_folder_with_a_sub_folder_for_each(follow, tmp_path):
    shared = tmp_path / "logs"
    for run in ("one", "two"):
        follow(started(tmp_path), steps_done(10), run=run, log_dir=shared)
    assert sorted(path.name for path in shared.iterdir()) == ["one", "two"]
    assert values(shared / "two", "train/loss") == [(10, 0.5)]
    assert not (tmp_path / "one" / "runs").exists()


def test_runs_of_one_name_do_not_mix_in_a_shared_folder(follow, tmp_path):
    shared = tmp_path / "logs"
    for run in ("a/lora", "b/lora"):
        follow(started(tmp_path), steps_done(10), run=run, log_dir=shared)
    follow(started(tmp_path, step=10), steps_done(20), run="a/lora", log_dir=shared)
    follow(started(tmp_path, step=10), steps_done(30), run="b/lora", log_dir=shared)
    assert [step for step, _ in values(shared / "lora", "train/loss")] == [10, 20]
    assert [step for step, _ in values(shared / "lora_v2", "train/loss")] == [10, 30]


def test_nothing_is_written_before_the_run_starts(follow, tmp_path):
    follow(CheckpointSaved(step=1, epoch=1, path=tmp_path), steps_done(1))
    assert list(tmp_path.iterdir()) == []


def test_points_can_be_read_while_the_run_goes_on(tmp_path):
    observer = SPEC.build(TensorBoardConfig(), BuildContext(run=tmp_path))
    observer.observe(started(tmp_path))
    observer.observe(steps_done(10))
    observer._writer.flush()
    assert values(tmp_path / "runs", "train/loss") == [(10, 0.5)]
    observer.observe(RunFinished(step=10, reason="complete", loss=0.5, adapter=None, seconds=1.0))
    observer.close()


def test_a_folder_that_cannot_be_made_is_an_error_of_the_observer(tmp_path):
    (tmp_path / "runs").write_text("a file is in the way")
    observer = SPEC.build(TensorBoardConfig(), BuildContext(run=tmp_path))
    with pytest.raises(OSError, match="runs"):
        observer.observe(started(tmp_path))
    observer.close()


def test_it_needs_a_run_folder():
    with pytest.raises(LoadError, match="needs the folder of a run"):
        SPEC.build(TensorBoardConfig(), BuildContext())


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[30, 24], rows=[5])


@pytest.fixture
def train(tmp_path, tiny_checkpoint, store):
    """Train in `tmp_path / run` with an observer for TensorBoard; return the events."""
    toolkit = Toolkit(entry_points=False, settings=Settings(tmp_path / "none.toml"))

    def run(epochs, folder="run", heavy=50, watched=True, **saving):
        chosen = Chosen(spec=SPEC, config=TensorBoardConfig(log_heavy_every=heavy))
        components = attrs.evolve(tiny_components(), observers=(chosen,) if watched else ())
        settings = {"train": {"epochs": epochs}, "run": saving}
        plan = tiny_plan(tiny_checkpoint, store, tmp_path / folder, components=components, **settings)
        return list(toolkit.train(plan))

    return run


def test_a_real_run_is_followed_and_goes_on(train, tmp_path):
    first = train(3, save_every_steps=2)
    second = train(5, resume_from=str(tmp_path / "run" / "checkpoints" / "step_2"))
    told = [e for e in first if isinstance(e, StepsDone) and e.step <= 2] + [
        e for e in second if isinstance(e, StepsDone)
    ]
    assert [event.step for event in told] == [1, 2, 3, 4, 5]
    expected = [(event.step, pytest.approx(event.loss)) for event in told]
    assert values(tmp_path / "run" / "runs", "train/loss") == expected


def test_a_run_goes_on_when_its_event_file_cannot_be_written(train, tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "runs").write_text("a file is in the way")
    assert train(2)[-1].reason == "complete"
    assert "TensorBoard failed and is dropped" in caplog.text


def gradients(events):
    return {event.step: event.gradients for event in events if isinstance(event, StepsDone) and event.gradients}


def test_every_tensor_has_its_gradient_norm_at_the_steps_that_were_asked_for(train, tmp_path):
    told = gradients(train(5, heavy=2))
    assert list(told) == [2, 4]
    expected = values(tmp_path / "run" / "runs", "grad_norm/layers.0.self_attn.q_proj.up")
    assert expected == [(step, pytest.approx(norms["layers.0.self_attn.q_proj.up"])) for step, norms in told.items()]


def test_gradient_norms_together_are_the_norm_of_all(train):
    events = train(2, heavy=1)
    for event in (event for event in events if isinstance(event, StepsDone)):
        whole = math.sqrt(sum(norm**2 for norm in event.gradients.values()))
        # those of the tensors are taken after clipping to 1
        assert whole == pytest.approx(min(event.grad_norm, 1.0), rel=1e-4)


@pytest.mark.parametrize("wanted", [{"heavy": 0}, {"watched": False}])
def test_gradient_norms_that_nobody_asked_for_are_not_taken(train, wanted):
    assert gradients(train(3, **wanted)) == {}


def test_gradient_norms_come_with_the_next_report(train):
    assert list(gradients(train(7, heavy=2, log_every=3))) == [3, 6]


def test_watching_changes_nothing_that_is_trained(train, tmp_path):
    train(3, heavy=1)
    train(3, folder="alone", watched=False)
    files = [(tmp_path / name / "final" / "small.safetensors").read_bytes() for name in ("run", "alone")]
    assert files[0] == files[1]
