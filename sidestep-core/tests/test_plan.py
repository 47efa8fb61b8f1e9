"""Plans: what a run will do, known before torch is imported."""

import subprocess
import sys

import attrs
import pytest
from sidestep_core.configs import DataConfig, MemoryConfig, TrainConfig
from sidestep_core.errors import AdapterError, ConfigError, DatasetError, ResumeError
from sidestep_core.memory import estimate_memory
from sidestep_core.model.layout import resolve_model
from sidestep_core.plan import checkpointed_layers, crop_frames, memory_on, workload
from sidestep_core.runs import write_record
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 60, 70, 80, 90], rows=[5, 9])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(store=store, **tables):
        return tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)

    return make


def add_checkpoint(run, step):
    folder = run / "checkpoints" / f"step_{step}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("train", "steps_per_epoch", "total"),
    [
        ({"epochs": 3, "batch_size": 1, "accumulation": 2}, 3, 9),
        ({"epochs": 3, "batch_size": 2, "accumulation": 2}, 2, 6),
        ({"epochs": 3, "batch_size": 2, "accumulation": 100}, 1, 3),
        ({"epochs": 3, "batch_size": 1, "accumulation": 1, "max_steps": 7}, 5, 7),
        ({"epochs": 3, "batch_size": 1, "accumulation": 1, "max_steps": 99}, 5, 15),
    ],
)
def test_steps_follow_from_songs_batches_and_accumulation(plan, train, steps_per_epoch, total):
    made = plan(train=train)
    assert (made.steps_per_epoch, made.total_steps) == (steps_per_epoch, total)


def test_repeats_make_epochs_longer(plan):
    made = plan(train={"accumulation": 1}, data={"dataset_repeats": (3,)})
    assert (made.visits, made.steps_per_epoch) == (15, 15)


@pytest.mark.parametrize(("wanted", "epochs", "warmup"), [(100, 1000, 100), (100, 10, 5), (100, 1, 1), (0, 1000, 0)])
def test_the_warm_up_is_at_most_a_tenth_of_the_run(plan, wanted, epochs, warmup):
    train = {"warmup_steps": wanted, "epochs": epochs, "accumulation": 1}
    assert plan(train=train).warmup_steps == warmup


def test_max_steps_shortens_the_warm_up_too(plan):
    assert plan(train={"warmup_steps": 100, "epochs": 1000, "max_steps": 50}).warmup_steps == 5


def test_targets_and_parameters_are_counted(plan):
    made = plan(targets={"target_modules": ("q_proj",), "attention": "self", "target_mlp": False})
    assert len(made.targets) == 4
    assert made.trainable == sum(4 * (target.out_features + target.in_features) for target in made.targets)


def test_a_type_that_cannot_count_has_no_number(plan):
    made = plan()
    spec = attrs.evolve(made.components.adapter.spec, count=None)
    components = attrs.evolve(made.components, adapter=attrs.evolve(made.components.adapter, spec=spec))
    assert attrs.evolve(made, components=components, trainable=None).memory.adapter == 0


def test_a_plan_needs_no_torch(tmp_path, tiny_checkpoint, store):
    code = (
        "import sys; from pathlib import Path\n"
        "from sidestep_core.requests import *; from sidestep_core.configs import *; from sidestep_core.specs import *\n"
        "from sidestep_core.plan import make_plan; from sidestep_core.store.index import open_store\n"
        "from sidestep_core.model.layout import resolve_model\n"
        "def part(kind): return Chosen(spec=kind(name='x', summary='x', target='x:x'))\n"
        "parts = Components(adapter=part(AdapterType), timesteps=part(TimestepSamplerType), controllers=(),"
        " optimizer=part(OptimizerType), observers=())\n"
        f"request = TrainRequest(run=RunConfig(output_dir=Path({str(tmp_path / 'run')!r})))\n"
        f"model, store = resolve_model(Path({str(tiny_checkpoint)!r}), None), open_store(Path({str(store.path)!r}))\n"
        "print(make_plan(request, parts, model, [store]).memory.total() > 0)\n"
        "print([name for name in ('torch', 'numpy', 'safetensors', 'diffusers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["True", "[]"]


def test_planning_writes_nothing(plan, tmp_path):
    plan()
    assert list(tmp_path.iterdir()) == []


def test_memory_is_that_of_the_longest_crop(plan):
    made = plan(data={"max_latent_length": 60}, train={"batch_size": 3})
    work = workload(made, "cpu", "fp32")
    assert (work.batch, work.frames, work.rows, work.trainable) == (3, 60, 9, made.trainable)
    assert made.memory == estimate_memory(work)


def test_memory_is_worked_out_anew_for_the_device_that_is_used(plan):
    made = plan(model={"device": "auto"})
    assert memory_on(made, "cpu", "fp32").weights == pytest.approx(2 * made.memory.weights, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "frames"),
    [
        ({}, None),
        ({"chunk_duration": 60}, 1500),
        ({"max_latent_length": 700}, 700),
        ({"chunk_duration": 60, "max_latent_length": 700}, 700),
    ],
)
def test_crops_are_given_in_seconds_or_frames(settings, frames):
    assert crop_frames(DataConfig(**settings)) == frames


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({}, None),
        ({"gradient_checkpointing": True}, 24),
        ({"gradient_checkpointing": False}, 0),
        ({"gradient_checkpointing": False, "gradient_checkpointing_ratio": 0.5}, 0),
        ({"gradient_checkpointing_ratio": 0.0}, 0),
        ({"gradient_checkpointing_ratio": 0.04}, 1),
        ({"gradient_checkpointing_ratio": 0.25}, 6),
        ({"gradient_checkpointing_ratio": 0.75}, 18),
        ({"gradient_checkpointing_ratio": 1.0, "gradient_checkpointing": True}, 24),
    ],
)
def test_recomputed_layers_are_set_or_left_to_memory(settings, layers):
    assert checkpointed_layers(MemoryConfig(**settings), 24) == layers


def test_a_run_needs_a_folder(plan):
    with pytest.raises(ConfigError, match="give --output-dir"):
        plan(run={"output_dir": None})


@pytest.mark.parametrize(
    ("optimizer", "given", "rate"),
    [("adamw", None, 3e-4), ("prodigy", None, 1.0), ("prodigy", 0.5, 0.5), ("adamw", 1e-5, 1e-5)],
)
def test_the_rate_is_the_given_one_or_the_optimizer_s_own_or_the_usual_one(plan, optimizer, given, rate):
    made = plan(components=tiny_components(optimizer=optimizer), train={"learning_rate": given})
    assert made.learning_rate == rate


def test_songs_of_several_folders_are_planned_together(plan, store, tmp_path, tiny_checkpoint):
    other = write_noise(tmp_path / "other", resolve_model(tiny_checkpoint, "base"), frames=[120, 40], seed=1)
    made = plan((store, other), data={"dataset_repeats": (1, 3)}, train={"accumulation": 1})
    assert (len(made.songs), made.visits, made.steps_per_epoch) == (7, 11, 11)
    assert made.songs[-1].name == "other/song 1.wav"


def test_held_out_songs_are_not_visited(plan):
    made = plan(data={"val_split": 0.4}, train={"accumulation": 1})
    assert (len(made.songs), len(made.held_out), made.steps_per_epoch) == (3, 2, 3)
    assert not {song.name for song in made.songs} & {song.name for song in made.held_out}


def test_memory_is_that_of_the_songs_that_are_trained_on(plan):
    made = plan(data={"val_split": 0.4})
    assert (
        made.memory.outside == plan(data={"max_latent_length": max(song.frames for song in made.songs)}).memory.outside
    )


def test_notices_name_the_folder_they_are_about(plan, store, tmp_path, tiny_checkpoint):
    other = write_noise(tmp_path / "other", resolve_model(tiny_checkpoint, "base"), frames=[40], seed=1)
    strange = [attrs.evolve(made, model="0" * 32) for made in (store, other)]
    assert [str(made.path) in notice for made, notice in zip(strange, plan(strange).notices, strict=True)] == [True] * 2


def test_nothing_to_train_on_is_refused(plan, store):
    silent = attrs.evolve(store, songs=tuple(attrs.evolve(song, repeat=0) for song in store.songs))
    with pytest.raises(DatasetError, match="holds no song to train on"):
        plan(silent)


def test_a_song_with_repeat_zero_is_left_out_and_named(plan, store):
    songs = (attrs.evolve(store.songs[0], repeat=0), *store.songs[1:])
    made = plan(attrs.evolve(store, songs=songs))
    assert len(made.songs) == made.visits == 4
    assert "'song 0.wav'" in made.notices[0]


def test_targets_that_match_nothing_are_refused(plan):
    with pytest.raises(AdapterError, match="no projection named 'nothing'"):
        plan(targets={"target_modules": ("nothing",)})


def test_tensors_of_another_model_are_pointed_out(plan, store):
    assert "made with another model" in plan(attrs.evolve(store, model="0" * 32)).notices[0]


def test_tensors_of_this_model_need_no_notice(plan):
    assert plan().notices == ()


def test_a_folder_that_holds_another_run_is_refused(plan, tmp_path):
    write_record(tmp_path / "run", {"name": "earlier", "status": "complete"})
    with pytest.raises(ConfigError, match=r"already holds run 'earlier' \(complete\); .*--resume-from latest"):
        plan()


def test_a_folder_with_an_adapter_is_refused(plan, tmp_path):
    (tmp_path / "run" / "final").mkdir(parents=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        plan()


def test_a_folder_with_other_things_is_fine(plan, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert plan().run == tmp_path / "run"


def test_latest_is_the_newest_checkpoint(plan, tmp_path):
    write_record(tmp_path / "run", {"name": "earlier"})
    add_checkpoint(tmp_path / "run", 9)
    newest = add_checkpoint(tmp_path / "run", 10)
    assert plan(run={"resume_from": "latest"}).resume == newest


def test_latest_without_a_checkpoint_is_refused(plan):
    with pytest.raises(ResumeError, match="no complete checkpoint in"):
        plan(run={"resume_from": "latest"})


def test_a_checkpoint_can_be_named(plan, tmp_path):
    folder = add_checkpoint(tmp_path / "run", 9)
    add_checkpoint(tmp_path / "run", 10)
    assert plan(run={"resume_from": str(folder)}).resume == folder


def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(plan, tmp_path):
    folder = add_checkpoint(tmp_path / "run", 9)
    with pytest.raises(ResumeError, match=r"no complete checkpoint; beside it there is step_9"):
        plan(run={"resume_from": str(folder.with_name("step_8"))})


def test_a_checkpoint_of_another_run_may_start_a_new_one(plan, tmp_path):
    folder = add_checkpoint(tmp_path / "other", 9)
    assert plan(run={"resume_from": str(folder)}).resume == folder


def test_a_checkpoint_of_another_run_does_not_excuse_a_taken_folder(plan, tmp_path):
    write_record(tmp_path / "run", {"name": "earlier"})
    folder = add_checkpoint(tmp_path / "other", 9)
    with pytest.raises(ConfigError, match="already holds run 'earlier'"):
        plan(run={"resume_from": str(folder)})


def test_a_resumed_run_keeps_its_name(plan, tmp_path):
    write_record(tmp_path / "run", {"name": "earlier"})
    add_checkpoint(tmp_path / "run", 9)
    assert plan(run={"resume_from": "latest", "run_name": None}).name == "earlier"


def test_a_run_without_a_name_is_called_after_time_and_adapter(plan):
    assert plan(run={"run_name": None}).name.endswith("_small")


def test_a_window_of_timesteps_needs_room():
    with pytest.raises(ValueError, match=r"timestep_min \(0\.8\) must be below timestep_max \(0\.5\)"):
        TrainConfig(timestep_min=0.8, timestep_max=0.5)


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_run_cannot_be_where_a_file_is(plan, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be made: '.*file' is a file"):
        plan(run={"output_dir": tmp_path / place})
