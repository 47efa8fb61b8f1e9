"""The whole analysis on a tiny model: what it finds, what it reads, what it leaves behind."""

import hashlib
import json
import shutil
from statistics import fmean, stdev

import attrs
import pytest
import safetensors.torch
import torch
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.ranks import category_of
from sidestep_core.analysis.result import map_text, write_map
from sidestep_core.analysis.sampling import plan_of, songs_of_run, timestep
from sidestep_core.analysis.sweep import Sweep
from sidestep_core.configs import DataConfig, ModelConfig
from sidestep_core.errors import Cancelled, ConfigError, DatasetError, SidestepError, StoreError, UnknownName
from sidestep_core.events import AnalysisFinished, Notice, SongFinished, SongRejected, StageStarted, WeightMeasured
from sidestep_core.files import hash_text
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import identity, resolve_model
from sidestep_core.model.load import load_decoder, load_silence
from sidestep_core.settings import CACHE_VARIABLE, Settings
from sidestep_core.store.index import StoredSong, conditioning_path, latents_path, write_index
from sidestep_core.store.legacy import write_pt
from sidestep_core.store.tensors import Latents, write_latents
from sidestep_core.testing.tiny_run import SMALL, write_noise
from sidestep_core.toolkit import Toolkit
from sidestep_core.training.batches import Batches
from sidestep_core.training.sets import songs_of

FRAMES = [40, 23, 32, 31]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("tensors"), model, frames=FRAMES, rows=[7, 12])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Small:
    """A plugin that offers the small adapter."""

    sidestep_api = 1

    @staticmethod
    def sidestep_adapters():
        return [SMALL]


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    from sidestep_core import hookimpl

    Small.sidestep_adapters = staticmethod(hookimpl(Small.sidestep_adapters))
    settings = Settings(tmp_path_factory.mktemp("settings") / "settings.toml")
    return Toolkit(plugins={"small": Small}, entry_points=False, settings=settings)


@pytest.fixture
def run(toolkit, tiny_checkpoint, store, cache):
    """A function that analyzes and returns all events."""

    def go(folder=None, cancelled=lambda: False, model=None, **settings):
        config = AnalyzeConfig(**{"dataset_dir": (folder or store.path,), "adapter_type": "small", **settings})
        models = ModelConfig(**{"checkpoint_dir": tiny_checkpoint, "device": "cpu", **(model or {})})
        return list(toolkit.analyze(config, models, cancelled=cancelled))

    return go


def analysis_of(events):
    assert isinstance(events[-1], AnalysisFinished)
    return events[-1].analysis


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def whole(toolkit, tiny_checkpoint, store, tmp_path_factory):
    """The events of an analysis of all songs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        config = AnalyzeConfig(dataset_dir=(store.path,), adapter_type="small", batches=4)
        return list(toolkit.analyze(config, ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu")))


def test_scores_are_means_over_songs_and_their_deviation_is_between_runs(whole, model, store):
    songs, names = songs_of([store], DataConfig()), list(projection_shapes(model.dims))
    decoder = load_decoder(model)
    sweep, batches = Sweep(decoder, names), Batches(songs, decoder.null_condition[0], in_memory=True)
    runs = []
    for number in range(2):
        rows = [
            sweep.measure(batches[plan_of(place, index, songs, None)], timestep(place, "balanced", (0, 1), model.dims))
            for place, index in enumerate(songs_of_run(number, 4, 4))
        ]
        runs.append([fmean(column) for column in zip(*rows, strict=True)])
    found = {module.name: module for module in analysis_of(whole).modules}
    for name, scores in zip(names, zip(*runs, strict=True), strict=True):
        assert found[name].score == pytest.approx(fmean(scores), rel=1e-9)
        assert found[name].deviation == pytest.approx(stdev(scores), rel=1e-6)


def test_runs_differ_by_nothing_but_their_songs(whole):
    first, second = (set(run.songs) for run in analysis_of(whole).runs)
    assert first == second == {song.name for song in of(SongFinished, whole)}
    assert analysis_of(whole).runs[0] != analysis_of(whole).runs[1]


def test_progress_is_told_song_by_song_and_weight_by_weight(whole):
    stages = [(event.stage, event.total) for event in of(StageStarted, whole)]
    assert stages == [("run 1/2", 4), ("run 2/2", 4), ("spectrum", 44)]
    assert len(of(SongFinished, whole)) == 8
    assert len(of(WeightMeasured, whole)) == 44
    assert sum(event.audio_seconds for event in of(SongFinished, whole)) == pytest.approx(2 * sum(FRAMES) / 25)


def test_55_per_cent_of_the_projections_get_a_rank_and_the_best_of_what_is_missing_then(whole):
    analysis = analysis_of(whole)
    assert {category_of(module.name) for module in analysis.by_score[:24]} == {"self_attn", "cross_attn"}
    best = next(module for module in analysis.by_score if category_of(module.name) == "mlp")
    assert analysis.ranked == (*analysis.by_score[:24], best)
    assert all(module.rank % 8 == 0 and 16 <= module.rank <= 128 for module in analysis.ranked)


def test_what_the_ranks_train_is_told(whole, model):
    analysis = analysis_of(whole)
    shapes = projection_shapes(model.dims)
    assert analysis.trainable == sum(module.rank * sum(shapes[module.name]) for module in analysis.ranked)


def test_two_analyses_give_the_same_map_whether_effective_ranks_were_kept_or_not(run, whole):
    first, second = run(batches=4), run(batches=4)
    assert (len(of(WeightMeasured, first)), len(of(WeightMeasured, second))) == (44, 0)
    texts = {map_text(analysis_of(events)) for events in (first, second, whole)}
    assert len(texts) == 1


def test_nothing_is_written_but_effective_ranks(run, model, store, cache):
    before = sorted(path.name for path in store.path.rglob("*"))
    run(runs=1, batches=1)
    assert sorted(path.name for path in store.path.rglob("*")) == before
    assert [path.name for path in cache.iterdir()] == [f"spectrum-{identity(model)}.json"]


def test_a_cache_that_cannot_be_written_is_no_obstacle(run, cache):
    cache.write_text("a file where the folder should be")
    events = run(runs=1, batches=1)
    notices = [event.message for event in of(Notice, events) if "not kept for next time" in event.message]
    assert len(notices) == 1
    assert analysis_of(events).modules[0].effective_rank > 0


def test_a_cache_that_is_damaged_is_made_again(run, cache, model):
    cache.mkdir()
    file = cache / f"spectrum-{identity(model)}.json"
    file.write_text("{")
    assert len(of(WeightMeasured, run(runs=1, batches=1))) == 44
    assert json.loads(file.read_text())["energy"] == 0.95


# What is measured


def test_runs_and_songs_are_as_many_as_asked_for(run):
    analysis = analysis_of(run(runs=3, batches=2))
    assert [(len(run.songs), run.batches) for run in analysis.runs] == [(2, 2)] * 3
    assert (analysis.batches, analysis.songs) == (2, 4)


def test_one_run_has_no_deviation(run):
    assert {module.deviation for module in analysis_of(run(runs=1, batches=1)).modules} == {0.0}


def test_the_focus_changes_what_counts(run):
    maps = {
        focus: [module.score for module in analysis_of(run(runs=1, batches=2, timestep_focus=focus)).modules]
        for focus in ("texture", "structure", "0.5,0.6")
    }
    assert len({tuple(scores) for scores in maps.values()}) == 3


def test_a_window_shortens_what_is_measured(run, model, tmp_path):
    long = write_noise(tmp_path / "long", model, frames=[300])
    events = run(long.path, runs=1, batches=1, chunk_duration=10)
    assert [event.audio_seconds for event in of(SongFinished, events)] == [10.0]


def test_a_run_ends_early_once_the_ranking_is_settled(run, model, tmp_path):
    many = write_noise(tmp_path / "many", model, frames=[30] * 16)
    events = run(many.path, runs=1, convergence_patience=1)
    done = len(of(SongFinished, events))
    assert 2 < done < 16
    told = [event.message for event in of(Notice, events)]
    assert f"run 1/1: the ranking is settled after {done} of 16 batches" in told
    patient = run(many.path, runs=1, convergence_patience=3)
    assert len(of(SongFinished, patient)) >= done + 2


def test_scores_that_are_not_settled_are_told(run):
    events = run(runs=1, batches=1)
    assert any("the scores are known to no better" in event.message for event in of(Notice, events) if event.warning)


@pytest.mark.parametrize("recomputing", [True, False])
def test_layers_are_recomputed_as_the_settings_say_and_scores_stay(run, recomputing):
    events = run(runs=1, batches=1, gradient_checkpointing=recomputing)
    told = any("recomputing 4 of 4 layers" in event.message for event in of(Notice, events))
    assert told == recomputing
    plain = run(runs=1, batches=1)
    assert map_text(analysis_of(events)) == map_text(analysis_of(plain))


def test_layers_are_recomputed_where_memory_is_short(run, monkeypatch):
    monkeypatch.setattr("sidestep_core.analysis.measuring.free_memory", lambda _: 0)
    events = run(runs=1, batches=1)
    assert any("recomputing 4 of 4 layers" in event.message for event in of(Notice, events))


def test_bf16_ranks_the_projections_nearly_alike(run):
    fp32, bf16 = (analysis_of(run(runs=1, batches=4, model={"precision": precision})) for precision in ("fp32", "bf16"))
    assert [m.score for m in fp32.modules] != [m.score for m in bf16.modules]
    same = {m.name for m in fp32.ranked} & {m.name for m in bf16.ranked}
    assert len(same) >= len(fp32.ranked) - 2


def test_a_budget_is_kept(run):
    analysis = analysis_of(run(runs=1, batches=1, budget=100_000))
    assert 90_000 < analysis.trainable <= 100_000
    assert (analysis.budget, analysis.adapter_type) == (100_000, "small")


def test_a_set_of_10000_songs_is_read_no_further_than_the_songs_of_the_runs(run, store, tmp_path):
    folder = tmp_path / "large"
    shutil.copytree(store.path, folder)
    there = store.songs[0]
    wanted = {index for number in range(2) for index in songs_of_run(number, 10_000, 3)}
    absent = hash_text("no such file")
    songs = tuple(
        attrs.evolve(there, name=f"{i:05}.wav")
        if i in wanted
        else StoredSong(
            name=f"{i:05}.wav", frames=10**6, rows=9, seconds=1.0, latents_key=absent, conditioning_key=absent
        )
        for i in range(10_000)
    )
    write_index(attrs.evolve(store, path=folder, songs=songs))
    analysis = analysis_of(run(folder, runs=2, batches=3))
    assert (analysis.songs, sum(len(run.songs) for run in analysis.runs)) == (10_000, 6)


def test_one_song_is_enough_and_it_is_told_that_it_says_little(run, model, tmp_path):
    lone = write_noise(tmp_path / "lone", model, frames=[40])
    events = run(lone.path, convergence_patience=99)
    assert any(event.message.startswith("1 song says little") for event in of(Notice, events) if event.warning)
    (run_,) = analysis_of(events).runs
    assert (run_.songs, run_.batches) == (("song 0.wav",), 8)


@pytest.fixture
def pt_folder(model, tmp_path):
    """Tensors as Side-Step writes them."""
    folder, generator = tmp_path / "pt", torch.Generator().manual_seed(0)
    folder.mkdir()
    for name, frames in (("a", 50), ("b", 60)):
        latents = torch.randn(frames, 64, generator=generator)
        conditioning = torch.randn(9, model.dims.condition_size, generator=generator)
        write_pt(folder / f"{name}.pt", latents, conditioning, load_silence(model), {"filename": name})
    return folder


def test_a_pt_set_is_analyzed_and_known_as_side_step_knows_it(run, pt_folder):
    analysis = analysis_of(run(pt_folder, runs=1, batches=2))
    listed = "|".join(f"{name}:{(pt_folder / name).stat().st_size}" for name in ("a.pt", "b.pt"))
    assert analysis.dataset_hash == hashlib.md5(listed.encode()).hexdigest()[:12]
    assert set(analysis.runs[0].songs) == {"a.pt", "b.pt"}


def test_several_folders_are_analyzed_together(run, store, model, tmp_path):
    more = write_noise(tmp_path / "more", model, frames=[45], seed=4)
    analysis = analysis_of(run(runs=1, batches=5, dataset_dir=(store.path, more.path)))
    assert analysis.songs == 5
    assert "more/song 0.wav" in analysis.runs[0].songs


# A layer that cannot matter


@pytest.fixture
def planted(tiny_checkpoint, tmp_path):
    """A checkpoint whose layer 2 is closed: gates of self-attention and MLP are zero, as is what attention to the
    condition gives, so that nothing the layer does reaches the output."""
    root = tmp_path / "planted"
    shutil.copytree(tiny_checkpoint, root)
    file = root / "acestep-v15-base" / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    hidden = tensors["decoder.layers.2.scale_shift_table"].shape[-1]
    for gate in (2, 5):
        rows = slice(gate * hidden, (gate + 1) * hidden)
        for embedding in ("time_embed", "time_embed_r"):
            # the gates no longer follow the timestep: each layer's own table decides
            tensors[f"decoder.{embedding}.time_proj.weight"][rows] = 0
            tensors[f"decoder.{embedding}.time_proj.bias"][rows] = 0
        for layer in range(4):
            tensors[f"decoder.layers.{layer}.scale_shift_table"][:, gate] = 0.0 if layer == 2 else 0.5
    tensors["decoder.layers.2.cross_attn.o_proj.weight"].zero_()
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    return root


@pytest.mark.parametrize("recomputing", [False, True])
def test_a_layer_behind_closed_gates_gets_no_rank(run, planted, recomputing):
    events = run(runs=1, batches=2, model={"checkpoint_dir": planted}, gradient_checkpointing=recomputing)
    modules = {module.name: module for module in analysis_of(events).modules}
    closed = [name for name in modules if name.startswith("layers.2.") and name != "layers.2.cross_attn.o_proj"]
    assert len(closed) == 10
    assert {(modules[name].score, modules[name].rank) for name in closed} == {(0.0, 0)}


def test_the_layers_beside_a_closed_one_keep_theirs(run, planted):
    ranked = analysis_of(run(runs=1, batches=2, model={"checkpoint_dir": planted})).ranked
    assert {module.name.split(".")[1] for module in ranked} >= {"0", "1", "3"}
    assert {category_of(module.name) for module in ranked} == {"self_attn", "cross_attn", "mlp"}


def test_a_model_whose_output_depends_on_no_projection_is_told(run, planted):
    file = planted / "acestep-v15-base" / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["decoder.proj_out.1.weight"].zero_()
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="no projection of 'acestep-v15-base' has a gradient"):
        run(runs=1, batches=1, model={"checkpoint_dir": planted})


# What cannot be used


def test_a_song_whose_gradients_are_not_finite_is_left_out_and_named(run, model, tmp_path):
    store = write_noise(tmp_path / "odd", model, frames=[40, 50, 60])
    write_latents(latents_path(store.path, store.songs[1].latents_key), Latents(torch.full((50, 64), 1e25)), {})
    events = run(store.path, runs=1, batches=3)
    assert [(event.name, event.reason) for event in of(SongRejected, events)] == [
        ("song 1.wav", "its gradients are not finite")
    ]
    assert set(analysis_of(events).runs[0].songs) == {"song 0.wav", "song 2.wav"}


def test_a_set_of_such_songs_is_refused(run, model, tmp_path):
    store = write_noise(tmp_path / "odd", model, frames=[50])
    write_latents(latents_path(store.path, store.songs[0].latents_key), Latents(torch.full((50, 64), 1e25)), {})
    with pytest.raises(ConfigError, match="no song had finite gradients"):
        run(store.path)


def test_a_missing_tensor_file_is_told(run, model, tmp_path):
    store = write_noise(tmp_path / "holes", model, frames=[50])
    conditioning_path(store.path, store.songs[0].conditioning_key).unlink()
    with pytest.raises(StoreError, match="is missing; run 'sidestep preprocess' again"):
        run(store.path)


def test_tensors_for_a_wider_model_are_told(run, store, tmp_path):
    folder = tmp_path / "wide"
    shutil.copytree(store.path, folder)
    for song in store.songs:
        path = conditioning_path(folder, song.conditioning_key)
        wide = torch.cat([safetensors.torch.load_file(path)["conditioning"]] * 2, dim=1)
        safetensors.torch.save_file({"conditioning": wide}, path)
    with pytest.raises(StoreError, match="is 128 wide where the model takes 64; run 'sidestep preprocess' with this"):
        run(folder)


def test_tensors_made_with_another_model_are_pointed_out(run, store, tmp_path):
    folder = tmp_path / "foreign"
    shutil.copytree(store.path, folder)
    write_index(attrs.evolve(store, path=folder, model="another"))
    events = run(folder, runs=1, batches=1)
    assert any("were made with another model" in event.message for event in of(Notice, events) if event.warning)


def test_songs_that_are_never_trained_on_are_not_measured(run, store, tmp_path):
    folder = tmp_path / "silent"
    shutil.copytree(store.path, folder)
    songs = tuple(attrs.evolve(song, repeat=int(i == 3)) for i, song in enumerate(store.songs))
    write_index(attrs.evolve(store, path=folder, songs=songs))
    assert analysis_of(run(folder, runs=1, batches=1)).runs[0].songs == ("song 3.wav",)
    write_index(attrs.evolve(store, path=folder, songs=tuple(attrs.evolve(song, repeat=0) for song in songs)))
    with pytest.raises(DatasetError, match="holds no song to analyze"):
        run(folder)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"dataset_dir": ()}, ConfigError, "no tensors to analyze: give --dataset-dir"),
        ({"adapter_type": "lorra"}, UnknownName, "lorra"),
        ({"model": {"device": "cuda:9"}}, ConfigError, "no device 'cuda:9'"),
        ({"model": {"precision": "fp16"}}, ConfigError, "fp16"),
        ({"model": {"model": "nothing"}}, SidestepError, "no model 'nothing'"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_measured(run, settings, error, words):
    with pytest.raises(error, match=words):
        run(**settings)


# Stopping


@pytest.mark.parametrize("asked", [0, 1, 3, 20])
def test_it_stops_where_it_is_asked_to_and_leaves_nothing(run, store, cache, asked):
    calls = iter(range(10**6))
    with pytest.raises(Cancelled):
        run(runs=1, batches=3, cancelled=lambda: next(calls) >= asked)
    assert not cache.exists()
    assert sorted(path.name for path in store.path.iterdir()) == ["conditioning", "index.json", "latents"]


def test_a_map_replaces_another_at_once(whole, tmp_path, monkeypatch):
    path = tmp_path / "fisher_map.json"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        write_map(analysis_of(whole), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
