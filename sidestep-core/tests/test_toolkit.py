"""The façade: what it looks up, what it plans, and how observers follow a run."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import soundfile
from sidestep_core import Toolkit, hookimpl
from sidestep_core.builtins import plugin as builtins
from sidestep_core.configs import DataConfig, ModelConfig, PreprocessConfig
from sidestep_core.errors import CheckpointError, ConfigError, LoadError, StoreError, UnknownName
from sidestep_core.events import MemoryPlanned, PreprocessFinished, RunFinished, RunStarted, StageStarted, StepsDone
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Choice
from sidestep_core.runs import read_progress
from sidestep_core.settings import Settings
from sidestep_core.specs import ExporterType, ObserverType
from sidestep_core.testing.tiny_run import SMALL, tiny_request, write_noise


@attrs.frozen(kw_only=True)
class Made(ObserverType):
    """An observer type whose factory is at hand instead of in a module."""

    make: object = None

    def load(self):
        return self.make


@attrs.frozen(kw_only=True)
class MadeExporter(ExporterType):
    make: object = None

    def load(self):
        return self.make


class Watcher:
    """Keeps what it is shown; raises from the event of that kind on."""

    def __init__(self, fails_at=(), fails_to_close=False):
        self.seen, self.closed = [], 0
        self.fails_at, self.fails_to_close = fails_at, fails_to_close

    def observe(self, event):
        self.seen.append(event)
        if isinstance(event, self.fails_at):
            raise ValueError("lost the thread")

    def close(self):
        self.closed += 1
        if self.fails_to_close:
            raise OSError("no way out")


class Parts:
    """A plugin with the small adapter and one observer, whose instances and context are kept."""

    sidestep_api = 1

    def __init__(self):
        self.watchers, self.contexts = [], []

    @hookimpl
    def sidestep_adapters(self):
        return [SMALL]

    @hookimpl
    def sidestep_observers(self):
        return [Made(name="watcher", summary="Keeps events", target="no:where", make=self._watch)]

    @hookimpl
    def sidestep_exporters(self):
        return [MadeExporter(name="echo", summary="Names the adapter", target="no:where", make=lambda *_: self)]

    def export(self, request):
        return ExportReport(paths=(request.adapter,), modules=3)

    def _watch(self, config, context):
        self.contexts.append(context)
        self.watchers.append(Watcher())
        return self.watchers[-1]


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / "settings.toml")


@pytest.fixture
def toolkit(parts, settings):
    return Toolkit(plugins={"builtins": builtins, "parts": parts}, entry_points=False, settings=settings)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("tensors"), model, frames=[20, 26]).path


@pytest.fixture
def request_of(tmp_path, tiny_checkpoint, tensors):
    def make(observers=("watcher",), adapter="small", **tables):
        made = tiny_request(
            tmp_path / "run",
            model={"checkpoint_dir": tiny_checkpoint, **tables.pop("model", {})},
            data={"dataset_dir": (tensors,), **tables.pop("data", {})},
            train={"epochs": 2, "accumulation": 1, **tables.pop("train", {})},
            **tables,
        )
        choices = tuple(Choice(name=name) for name in observers)
        return attrs.evolve(made, adapter=Choice(name=adapter), observers=choices)

    return make


# What there is


def test_components_of_every_kind_are_found_by_name(toolkit):
    there = [("adapter", "small"), ("timestep-sampler", "discrete"), ("observer", "watcher"), ("exporter", "echo")]
    assert [(kind, toolkit.registry(kind)[name].name) for kind, name in there] == there


def test_a_toolkit_knows_nothing_but_what_it_was_given(settings):
    bare = Toolkit(entry_points=False, settings=settings)
    assert bare.records == []
    assert all(not bare.registry(kind) for kind in ("adapter", "observer", "exporter"))


def test_plugins_disabled_in_the_settings_offer_nothing(parts, settings):
    settings.set("disabled", "parts")
    toolkit = Toolkit(plugins={"builtins": builtins, "parts": parts}, entry_points=False, settings=settings)
    assert [(record.name, record.status) for record in toolkit.records] == [("builtins", "ok"), ("parts", "blocked")]
    assert "small" not in toolkit.registry("adapter")


def test_settings_are_read_from_their_folder_when_none_are_given(monkeypatch, tmp_path):
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path))
    Settings(tmp_path / "settings.toml").set("checkpoint_dir", str(tmp_path))
    assert Toolkit(entry_points=False).checkpoint_dir() == tmp_path


def test_a_secret_comes_from_a_plugin_before_the_environment(monkeypatch, settings):
    class Vault:
        sidestep_api = 1

        @hookimpl
        def sidestep_secret(self, service):
            return "from the vault" if service == "gemini" else None

    monkeypatch.setenv("GEMINI_API_KEY", "from the environment")
    monkeypatch.setenv("GENIUS_API_TOKEN", "genius from the environment")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    toolkit = Toolkit(plugins={"vault": Vault(), "builtins": builtins}, entry_points=False, settings=settings)
    assert [toolkit.plugins.secret(service) for service in ("gemini", "genius", "openai", "unheard-of")] == [
        "from the vault",
        "genius from the environment",
        None,
        None,
    ]


# Models


def test_the_folder_of_the_models_is_the_given_one_then_the_settings_then_here(
    toolkit, settings, tmp_path, monkeypatch
):
    given, named = tmp_path / "given", tmp_path / "named"
    for folder in (given, named, tmp_path / "checkpoints"):
        folder.mkdir()
    monkeypatch.chdir(tmp_path)
    assert toolkit.checkpoint_dir().resolve() == tmp_path / "checkpoints"
    settings.set("checkpoint_dir", str(named))
    assert toolkit.checkpoint_dir() == named
    assert toolkit.checkpoint_dir(given) == given


def test_a_folder_of_the_settings_that_is_gone_does_not_fall_back_to_here(toolkit, settings, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.chdir(tmp_path)
    settings.set("checkpoint_dir", str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match="which the settings names"):
        toolkit.checkpoint_dir()


def test_models_are_listed_and_found_by_what_the_settings_of_a_run_say(toolkit, tiny_checkpoint):
    assert [model.name for model in toolkit.models(tiny_checkpoint)] == ["acestep-v15-base"]
    config = ModelConfig(checkpoint_dir=tiny_checkpoint, model="base")
    assert toolkit.model(config) == toolkit.models(tiny_checkpoint)[0]


# Plans


@pytest.mark.parametrize(
    ("change", "kind", "there"),
    [
        ({"adapter": Choice(name="smal")}, "adapter 'smal'", "small; did you mean 'small'"),
        ({"timesteps": Choice(name="x")}, "timestep-sampler 'x'", "adaptive, continuous, discrete"),
        (
            {"controllers": (Choice(name="cosine"), Choice(name="x"))},
            "lr-controller 'x'",
            "constant, constant_with_warmup, cosine, cosine_restarts",
        ),
        (
            {"optimizer": Choice(name="x")},
            "optimizer 'x'",
            "adafactor, adamw, adamw8bit, auto, lion, prodigy, schedule_free",
        ),
        ({"observers": (Choice(name="x"),)}, "observer 'x'", "progress, tensorboard, watcher"),
    ],
)
def test_a_component_that_is_not_there_is_named_with_those_that_are(toolkit, request_of, change, kind, there):
    with pytest.raises(UnknownName, match=f"no {kind}; there is {there}"):
        toolkit.components(attrs.evolve(request_of(), **change))


def test_a_missing_component_may_be_in_a_plugin_that_did_not_load(settings, request_of):
    toolkit = Toolkit(plugins={"old": object()}, entry_points=False, settings=settings)
    with pytest.raises(UnknownName, match=r"there is none installed\nnot loaded: old \('sidestep plugins list'"):
        toolkit.components(request_of())


def test_components_come_with_the_settings_that_were_chosen(toolkit, request_of):
    config = SMALL.config(rank=9)
    chosen = toolkit.components(attrs.evolve(request_of(), adapter=Choice(name="parts:small", config=config)))
    assert (chosen.adapter.spec, chosen.adapter.config) == (SMALL, config)


def test_a_plan_needs_tensors(toolkit, request_of):
    with pytest.raises(ConfigError, match="no tensors to train on: give --dataset-dir"):
        toolkit.plan(attrs.evolve(request_of(), data=DataConfig()))


def test_a_plan_needs_a_folder_for_the_run(toolkit, request_of):
    with pytest.raises(ConfigError, match="give --output-dir"):
        toolkit.plan(request_of(run={"output_dir": None}))


def test_a_plan_needs_a_model_that_is_there(toolkit, request_of):
    with pytest.raises(CheckpointError, match=r"no model 'sft' in .*; there is acestep-v15-base"):
        toolkit.plan(request_of(model={"model": "sft"}))


def test_a_plan_needs_a_tensor_folder_that_is_there(toolkit, request_of, tmp_path):
    with pytest.raises(StoreError, match=r"no tensor folder at .*gone"):
        toolkit.plan(request_of(data={"dataset_dir": (tmp_path / "gone",)}))


def test_planning_builds_no_component(toolkit, request_of, parts):
    plan = toolkit.plan(request_of())
    assert (plan.total_steps, plan.components.adapter.spec) == (4, SMALL)
    assert parts.watchers == []


# Training


def test_the_events_of_a_run_come_in_order(toolkit, request_of):
    events = list(toolkit.train(toolkit.plan(request_of())))
    assert [type(event) for event in events[:2]] == [MemoryPlanned, RunStarted]
    assert [event.step for event in events if isinstance(event, StepsDone)] == [1, 2, 3, 4]
    assert isinstance(events[-1], RunFinished)


def test_observers_see_every_event_before_it_is_yielded(toolkit, request_of, parts):
    given = Watcher()
    events = []
    for event in toolkit.train(toolkit.plan(request_of()), observers=[given]):
        events.append(event)
        assert parts.watchers[0].seen == given.seen == events
    assert len(events) > 4


def test_a_chosen_observer_knows_the_run_it_follows(toolkit, request_of, parts, tmp_path):
    next(iter(toolkit.train(toolkit.plan(request_of()))))
    (context,) = parts.contexts
    assert (context.run, context.variant, context.model.num_layers) == (tmp_path / "run", "base", 4)


def test_observers_are_chosen_and_never_all_that_are_installed(toolkit, request_of, parts, tmp_path):
    list(toolkit.train(toolkit.plan(request_of(observers=["progress"]))))
    assert parts.watchers == []
    lines = read_progress(tmp_path / "run" / "progress.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3, 4]


def test_an_observer_that_raises_is_logged_once_and_dropped_while_others_go_on(toolkit, request_of, caplog):
    bad, good = Watcher(fails_at=StepsDone), Watcher()
    events = list(toolkit.train(toolkit.plan(request_of(observers=[])), observers=[bad, good]))
    assert good.seen == events
    assert bad.seen == events[:3]
    (record,) = caplog.records
    assert (record.getMessage(), record.levelname) == ("observer Watcher failed and is dropped for this run", "ERROR")
    assert "lost the thread" in str(record.exc_info[1])


def test_a_dropped_observer_is_closed_as_well(toolkit, request_of):
    bad = Watcher(fails_at=RunStarted)
    list(toolkit.train(toolkit.plan(request_of()), observers=[bad]))
    assert bad.closed == 1


def test_an_observer_that_fails_to_close_keeps_no_other_open(toolkit, request_of, caplog):
    bad, good = Watcher(fails_to_close=True), Watcher()
    events = list(toolkit.train(toolkit.plan(request_of()), observers=[bad, good]))
    assert isinstance(events[-1], RunFinished)
    assert (bad.closed, good.closed) == (1, 1)
    assert [record.getMessage() for record in caplog.records] == ["observer Watcher failed to close"]


def test_observers_are_closed_once_when_a_run_is_over(toolkit, request_of, parts):
    given = Watcher()
    list(toolkit.train(toolkit.plan(request_of()), observers=[given]))
    assert (parts.watchers[0].closed, given.closed) == (1, 1)


def test_observers_are_closed_once_when_a_run_is_stopped(toolkit, request_of, parts):
    given = Watcher()
    plan = toolkit.plan(request_of())
    events = list(
        toolkit.train(plan, stop=lambda: any(isinstance(e, StepsDone) for e in given.seen), observers=[given])
    )
    assert events[-1].reason == "stopped"
    assert (parts.watchers[0].closed, given.closed) == (1, 1)


def test_observers_are_closed_once_when_nobody_listens_any_more(toolkit, request_of, parts):
    given = Watcher()
    run = toolkit.train(toolkit.plan(request_of()), observers=[given])
    next(run)
    run.close()
    assert (parts.watchers[0].closed, given.closed) == (1, 1)
    assert len(given.seen) == 1


def test_observers_are_closed_once_when_training_cannot_begin(toolkit, request_of, parts, tmp_path, tiny_checkpoint):
    store = write_noise(tmp_path / "tensors", resolve_model(tiny_checkpoint, "base"), frames=[20])
    plan = toolkit.plan(request_of(data={"dataset_dir": (store.path,)}))
    store.latents_file(store.songs[0]).unlink()
    given = Watcher()
    with pytest.raises(StoreError, match="is missing"):
        list(toolkit.train(plan, observers=[given]))
    assert (parts.watchers[0].closed, given.closed) == (1, 1)


def test_observers_are_closed_once_when_training_fails_on_the_way(toolkit, request_of, parts):
    def stop():
        raise RuntimeError("the caller is confused")

    given = Watcher()
    with pytest.raises(RuntimeError, match="confused"):
        list(toolkit.train(toolkit.plan(request_of()), stop=stop, observers=[given]))
    assert isinstance(given.seen[-1], RunStarted)
    assert (parts.watchers[0].closed, given.closed) == (1, 1)


def test_an_observer_that_cannot_be_built_ends_the_run_before_it_begins(parts, settings, request_of, tmp_path):
    class Bad:
        sidestep_api = 1

        @hookimpl
        def sidestep_observers(self):
            return [Made(name="bad", summary="Never there", target="no:where", make=lambda config, context: 1 / 0)]

    plugins = {"builtins": builtins, "parts": parts, "bad": Bad()}
    toolkit = Toolkit(plugins=plugins, entry_points=False, settings=settings)
    with pytest.raises(LoadError, match="observer 'bad' cannot be built: ZeroDivisionError"):
        next(toolkit.train(toolkit.plan(request_of(observers=["bad"]))))
    assert not (tmp_path / "run").exists()


# Preprocessing and export


def test_the_events_of_preprocessing_come_in_order(toolkit, tiny_checkpoint, tmp_path):
    clip = np.random.default_rng(0).uniform(-0.1, 0.1, (19_200, 2))
    (tmp_path / "songs").mkdir()
    soundfile.write(tmp_path / "songs" / "a.wav", clip, 48_000)
    config = PreprocessConfig(audio_dir=tmp_path / "songs", tensor_output=tmp_path / "out", workers=1)
    model = ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu", precision="fp32")
    events = list(toolkit.preprocess(config, model))
    assert len([event for event in events if isinstance(event, StageStarted)]) > 1
    assert isinstance(events[0], StageStarted)
    assert isinstance(events[-1], PreprocessFinished)
    assert events[-1].written == 1


def test_preprocessing_without_a_model_reads_no_song(toolkit, tmp_path):
    config = PreprocessConfig(audio_dir=tmp_path / "none", tensor_output=tmp_path / "out")
    with pytest.raises(CheckpointError, match="no ACE-Step model"):
        next(toolkit.preprocess(config, ModelConfig(checkpoint_dir=tmp_path)))
    assert not (tmp_path / "out").exists()


def test_an_export_is_what_the_target_makes_of_it(toolkit, tmp_path):
    report = toolkit.export("echo", ExportRequest(adapter=tmp_path))
    assert (report.paths, report.modules) == ((tmp_path,), 3)


def test_an_unknown_export_target_is_named_with_those_that_are_there(toolkit, tmp_path):
    with pytest.raises(UnknownName, match="no exporter 'ecko'; there is echo; did you mean 'echo'"):
        toolkit.export("ecko", ExportRequest(adapter=tmp_path))
