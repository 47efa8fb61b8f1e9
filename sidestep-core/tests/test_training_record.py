"""What a run says about itself, and what a resumed run is compared by."""

import json
import os
import platform

import attrs
import pytest
from sidestep_core.errors import ConfigError
from sidestep_core.history import known_runs
from sidestep_core.model.layout import identity, resolve_model
from sidestep_core.runs import read_record, read_run, set_status
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.fingerprint import FREE, differences, fingerprint
from sidestep_core.training.record import adapter_metadata, begin_record, component, versions


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64, 70], rows=[5])


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    def make(store=store, **tables):
        return tiny_plan(tiny_checkpoint, store, tmp_path / "run", **tables)

    return make


def changed(before, now):
    return list(differences(fingerprint(before, "fp32"), fingerprint(now, "fp32")))


def test_a_record_is_plain_json_with_everything_that_was_asked_for(plan):
    made = plan()
    begin_record(made)
    record = read_record(made.run)
    assert set(record["request"]) == {
        "model",
        "data",
        "train",
        "targets",
        "memory",
        "keep",
        "preview",
        "run",
        "adapter",
        "timesteps",
        "lr-control",
        "optimizer",
        "observe",
    }


def test_components_are_recorded_with_their_defaults(plan):
    parts = plan().components
    assert component(parts.optimizer) == {"type": "adamw", "weight_decay": 0.01}
    assert component(parts.controllers[0]) == {"type": "cosine", "cosine_eta_min_ratio": 0.01}


def test_a_resumed_run_keeps_the_time_it_was_begun(plan):
    made = plan()
    begin_record(made)
    created = read_record(made.run)["created"]
    set_status(made.run, "stopped")
    begin_record(made)
    record = read_record(made.run)
    assert (record["created"], record["status"]) == (created, "unfinished")


def test_a_run_that_begins_is_running_and_known(plan, monkeypatch, tmp_path):
    monkeypatch.setenv("SIDESTEP_DATA_DIR", str(tmp_path / "data"))
    made = plan()
    begun = begin_record(made)
    assert (read_run(made.run).status, begun.notices) == ("running", ())
    assert [(run.path, run.status) for run in known_runs()] == [(made.run, "running")]
    begun.end()
    assert read_run(made.run).status == "lost"


def test_a_run_says_which_process_it_is(plan):
    made = plan()
    begin_record(made)
    assert read_record(made.run)["process"] == {"pid": os.getpid(), "host": platform.node()}


def test_a_folder_that_is_trained_in_is_not_trained_in_again(plan):
    made = plan()
    begun = begin_record(made)
    set_status(made.run, "unfinished")
    with pytest.raises(ConfigError, match=rf"run '.*run' is going on \(process {os.getpid()} on .*\); stop it first"):
        begin_record(made)
    begun.end()
    begin_record(made).end()


def test_a_run_begins_although_it_cannot_be_entered_in_the_history(plan, monkeypatch, tmp_path):
    (tmp_path / "data").write_text("a file is in the way")
    monkeypatch.setenv("SIDESTEP_DATA_DIR", str(tmp_path / "data"))
    made = plan()
    begun = begin_record(made)
    assert len(begun.notices) == 1
    assert read_record(made.run)["name"] == made.name


def test_a_run_begins_where_there_are_no_locks(plan, monkeypatch):
    monkeypatch.setattr("sidestep_core.training.record.take_lock", lambda folder: None)
    begun = begin_record(plan())
    begun.end()
    assert begun.lock is None


def test_versions_are_those_of_what_is_installed():
    found = versions()
    assert {"sidestep-core", "torch"} <= set(found)
    assert all(version[0].isdigit() for version in found.values())


def test_a_record_names_the_songs_that_are_held_out(plan):
    made = plan(data={"val_split": 0.4})
    begin_record(made)
    record = read_record(made.run)
    assert (record["songs"], record["held_out"]) == (2, [made.held_out[0].name])


def test_a_record_holds_the_rate_that_is_used(plan):
    made = plan(components=tiny_components(optimizer="prodigy"), train={"learning_rate": None})
    begin_record(made)
    assert read_record(made.run)["learning_rate"] == 1.0


def test_metadata_is_text_and_says_where_the_adapter_belongs(plan):
    made = plan()
    metadata = adapter_metadata(made)
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["base_identity"] == identity(made.model)
    assert metadata["base_model"] == "acestep-v15-base"


def test_metadata_does_not_tell_an_interrupted_run_from_another(plan):
    made = plan()
    assert adapter_metadata(made) == adapter_metadata(attrs.evolve(made, resume=made.run / "checkpoints" / "step_1"))


def test_a_fingerprint_survives_json(plan):
    mark = fingerprint(plan(), "fp32")
    assert list(differences(json.loads(json.dumps(mark)), mark)) == []


@pytest.mark.parametrize(
    "name", ["train.epochs", "train.max_steps", "memory.gradient_checkpointing", "memory.block_swap"]
)
def test_what_may_change_is_not_part_of_it(plan, name):
    assert name in FREE
    assert name not in fingerprint(plan(), "fp32")["settings"]


def test_a_longer_run_is_the_same_run(plan):
    assert changed(plan(), plan(train={"epochs": 99, "max_steps": 500})) == []


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ({"train": {"seed": 7}}, "train.seed was 42, now 7"),
        ({"train": {"accumulation": 5}}, "train.accumulation was 2, now 5"),
        ({"data": {"max_latent_length": 40}}, "data.max_latent_length was None, now 40"),
        ({"memory": {"quantize_base": "int8"}}, "memory.quantize_base was 'none', now 'int8'"),
        ({"targets": {"attention": "self"}}, "targets.attention was 'both', now 'self'"),
    ],
)
def test_a_change_is_named_with_both_values(plan, tables, line):
    assert changed(plan(), plan(**tables)) == [line]


def test_every_change_is_named(plan):
    assert len(changed(plan(), plan(train={"seed": 7, "batch_size": 2}, data={"max_latent_length": 30}))) == 3


def test_a_rate_that_is_only_spelled_out_is_no_change(plan):
    assert changed(plan(train={"learning_rate": None}), plan(train={"learning_rate": 3e-4})) == []


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ({"train": {"ema_decay": 0.9}}, "train.ema_decay was 0.0, now 0.9"),
        ({"train": {"loss_weighting": "min_snr"}}, "train.loss_weighting was 'none', now 'min_snr'"),
        ({"train": {"timestep_max": 0.5}}, "train.timestep_max was 1.0, now 0.5"),
    ],
)
def test_changed_training_is_named(plan, tables, line):
    assert changed(plan(), plan(**tables)) == [line]


def test_a_changed_weight_changes_the_songs(plan):
    assert changed(plan(), plan(data={"dataset_weights": (0.5,)})) == [
        "data.dataset_weights was [], now [0.5]",
        "3 songs changed, such as 'song 0.wav'",
    ]


def test_a_song_that_is_held_out_now_is_gone(plan):
    held = plan(data={"val_split": 0.4})
    assert changed(plan(), held)[1] == f"1 songs gone, such as {held.held_out[0].name!r}"


def test_another_controller_is_named(plan):
    made = plan()
    without = attrs.evolve(made, components=attrs.evolve(made.components, controllers=()))
    assert changed(made, without)[0].startswith("lr-control.cosine was {'type': 'cosine'")


def test_new_tensors_of_a_song_are_a_change(plan, store):
    song = attrs.evolve(store.songs[1], conditioning_key="f" * 32)
    other = attrs.evolve(store, songs=(store.songs[0], song, store.songs[2]))
    assert changed(plan(), plan(other)) == ["1 songs changed, such as 'song 1.wav'"]


def test_a_song_that_is_gone_is_a_change(plan, store):
    other = attrs.evolve(store, songs=store.songs[1:])
    assert changed(plan(), plan(other)) == ["1 songs gone, such as 'song 0.wav'"]
