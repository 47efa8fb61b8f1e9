"""Rank maps: what is written, what is read, and what is refused because it was made for something else."""

import hashlib
import json

import attrs
import pytest
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.rank_map import dataset_hash, find_rank_map, plain_variant, read_rank_map
from sidestep_core.analysis.result import Analysis, Module, RunSongs, as_map, map_file, map_text, write_map
from sidestep_core.configs import TargetsConfig
from sidestep_core.errors import ConfigError
from sidestep_core.model.layout import identity, resolve_model
from sidestep_core.store.index import open_store, write_index
from sidestep_core.store.noise import write_noise

NAMES = {
    "layers.0.self_attn.v_proj": 96,
    "layers.2.cross_attn.q_proj": 16,
    "layers.1.mlp.up_proj": 40,
    "layers.3.self_attn.v_proj": 0,
}


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture
def store(model, tmp_path):
    return write_noise(tmp_path / "tensors", model, frames=[50, 60])


@pytest.fixture
def analysis(model, store):
    return Analysis(
        model=model.name,
        variant=model.variant,
        identity=identity(model),
        layers=4,
        timestep_mu=-0.4,
        timestep_sigma=1.0,
        dataset_hash=dataset_hash([store]),
        focus="texture",
        limits=(0.0, 0.4),
        songs=2,
        batches=2,
        runs=(RunSongs(songs=("a.wav", "b.wav"), batches=3), RunSongs(songs=("b.wav",), batches=1)),
        base=64,
        rank_min=16,
        rank_max=128,
        budget=None,
        adapter_type="lora",
        trainable=1000,
        error=0.123456789123,
        modules=tuple(
            Module(name=name, score=(i + 1) * 1.23456789012e-11, deviation=1e-12, effective_rank=20 + i, rank=rank)
            for i, (name, rank) in enumerate(NAMES.items())
        ),
    )


def test_the_file_has_what_version_2_has(analysis):
    written = as_map(analysis)
    assert (
        written.items()
        >= {
            "version": 2,
            "model_variant": "base",
            "num_hidden_layers": 4,
            "timestep_focus": "texture",
            "timestep_range": [0.0, 0.4],
            "num_runs": 2,
            "batches_per_run": 2,
            "total_batches": 4,
            "base_rank": 64,
            "rank_budget": {"min": 16, "max": 128},
            "target_modules": ["cross_attn.q_proj", "mlp.up_proj", "self_attn.v_proj"],
            "excluded_modules": ["decoder.layers.3.self_attn.v_proj"],
        }.items()
    )
    assert written["timestep_params"].keys() == {"mu", "sigma", "data_proportion"}
    assert written["sample_coverage"][1] == {
        "run": 1,
        "selected_count": 1,
        "total_count": 2,
        "coverage_ratio": 0.5,
        "selected_files": ["b.wav"],
    }


def test_ranks_and_alphas_are_named_without_the_decoder_and_modules_with_it(analysis):
    written = as_map(analysis)
    assert written["rank_pattern"] == {name: rank for name, rank in NAMES.items() if rank}
    assert written["alpha_pattern"] == {name: 2 * rank for name, rank in NAMES.items() if rank}
    assert list(written["rank_pattern"]) == [m["name"].removeprefix("decoder.") for m in written["modules"]]


def test_modules_are_those_with_a_rank_by_score_in_eight_digits(analysis):
    assert as_map(analysis)["modules"][0] == {
        "name": "decoder.layers.1.mlp.up_proj",
        "fisher_score": 3.7037037e-11,
        "fisher_cross_run_std": 1e-12,
        "effective_rank": 22,
        "assigned_rank": 40,
    }


def test_an_error_that_is_not_known_is_null(analysis):
    written = json.loads(map_text(attrs.evolve(analysis, error=float("inf"))))
    assert written["ranking_error"] is None


def test_what_is_written_is_read_again(analysis, tmp_path):
    path = tmp_path / "new" / "map.json"
    write_map(analysis, path)
    found = read_rank_map(path)
    assert found.ranks == {name: (rank, 2 * rank) for name, rank in NAMES.items() if rank}
    assert (found.identity, found.dataset_hash) == (analysis.identity, analysis.dataset_hash)


@pytest.fixture
def find(model, store):
    """A function that looks for the map of a run."""

    def look(stores=None, known_as=None, **settings):
        return find_rank_map(TargetsConfig(**settings), model, known_as or identity(model), stores or [store])

    return look


@pytest.fixture
def file(analysis, store):
    path = store.path / "fisher_map.json"
    write_map(analysis, path)
    return path


def change(file, **values):
    data = json.loads(file.read_text())
    for name, value in values.items():
        if value is None:
            del data[name]
        else:
            data[name] = value
    file.write_text(json.dumps(data))


def test_a_map_beside_the_tensors_is_found(find, file):
    assert find().path == file


def test_there_need_not_be_one(find):
    assert find() is None


def test_it_can_be_left_out(find, file):
    assert find(ignore_fisher_map=True) is None


def test_another_file_can_be_named(find, file, tmp_path):
    file.rename(tmp_path / "other.json")
    assert find() is None
    assert find(fisher_map=tmp_path / "other.json").path == tmp_path / "other.json"


def test_a_named_file_that_is_missing_is_told(find, tmp_path):
    with pytest.raises(ConfigError, match=r"no rank map '.*other.json'"):
        find(fisher_map=tmp_path / "other.json")


def test_naming_one_and_leaving_it_out_contradict_each_other(tmp_path):
    with pytest.raises(ValueError, match="contradict"):
        TargetsConfig(ignore_fisher_map=True, fisher_map=tmp_path)


def refused(find, **settings):
    """Return why a map is refused, the advice checked and taken off."""
    with pytest.raises(ConfigError) as error:
        find(**settings)
    reason, _, advice = str(error.value).partition("; make a new one with 'sidestep analyze")
    assert advice.endswith("or train without with --ignore-fisher-map")
    assert "\n" not in reason
    return reason


def test_a_map_of_another_model_is_refused(find, file, model):
    reason = refused(find, known_as="0123456789abcdef" * 2)
    assert f"was made for another model (base {identity(model)[:8]}, here {model.name} 01234567)" in reason


def test_a_map_of_other_tensors_is_refused(find, file, store, model, tmp_path):
    other = write_noise(tmp_path / "other", model, frames=[50, 60], seed=1)
    file.rename(other.path / file.name)
    assert refused(find, stores=[other]).endswith("was made for other tensors than these, or for a part of them")


def test_a_map_of_tensors_to_which_a_song_was_added_is_refused(find, file, store, model):
    larger = write_noise(store.path, model, frames=[50, 60, 70])
    assert "was made for other tensors" in refused(find, stores=[larger])


def test_a_map_whose_songs_have_another_caption_by_now_is_refused(find, file, store):
    first, *others = store.songs
    write_index(attrs.evolve(store, songs=(attrs.evolve(first, conditioning_key="a" * 32), *others)))
    assert "was made for other tensors" in refused(find, stores=[open_store(store.path)])


def test_a_map_is_still_good_where_the_tensors_were_moved_and_songs_renamed(find, file, store, tmp_path):
    store.path.rename(tmp_path / "moved")
    moved = attrs.evolve(store, path=tmp_path / "moved")
    renamed = tuple(attrs.evolve(song, name=f"new {song.name}") for song in moved.songs[::-1])
    write_index(attrs.evolve(moved, songs=renamed))
    assert find(stores=[open_store(moved.path)]).path == moved.path / "fisher_map.json"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": 1}, r"version 1, this program reads 2"),
        ({"version": None}, r"it has no 'version'"),
        ({"rank_pattern": None}, r"it has no 'rank_pattern'"),
        ({"alpha_pattern": {}}, "ranks and alphas"),
        ({"rank_pattern": {}, "alpha_pattern": {}}, "ranks and alphas"),
        ({"rank_pattern": {"x": 0}, "alpha_pattern": {"x": 2}}, "x has rank 0 and alpha 2"),
        ({"rank_pattern": {"x": 9999}, "alpha_pattern": {"x": 2}}, "x has rank 9999"),
        ({"rank_pattern": {"x": True}, "alpha_pattern": {"x": 2}}, "x has rank True"),
        ({"rank_pattern": {"x": 8}, "alpha_pattern": {"x": "16"}}, "x has rank 8 and alpha '16'"),
        ({"rank_pattern": [1]}, "the rank map"),
    ],
)
def test_a_damaged_map_is_refused(find, file, values, words):
    change(file, **values)
    reason = refused(find)
    assert words in reason
    assert str(file) in reason


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"'])
def test_a_file_that_is_no_map_is_refused(find, file, text):
    file.write_text(text)
    assert f"the rank map '{file}' cannot be used" in refused(find)


def test_a_map_that_names_what_the_model_has_not_is_refused(find, file):
    change(file, rank_pattern={"layers.9.mlp.up_proj": 16}, alpha_pattern={"layers.9.mlp.up_proj": 32})
    assert "names 'layers.9.mlp.up_proj', which is no projection of 'acestep-v15-base'" in refused(find)


@pytest.fixture
def other_store(model, tmp_path):
    return write_noise(tmp_path / "more", model, frames=[40], seed=5)


def test_a_map_of_one_folder_is_refused_for_two(find, file, store, other_store):
    reason = refused(find, stores=[store, other_store])
    assert "or for a part of them" in reason


def test_of_several_maps_the_one_of_exactly_these_folders_is_used(find, file, analysis, store, other_store):
    both = attrs.evolve(analysis, dataset_hash=dataset_hash([other_store, store]))
    write_map(both, other_store.path / "fisher_map.json")
    assert find(stores=[store, other_store]).path == other_store.path / "fisher_map.json"
    assert find(stores=[other_store, store]).path == other_store.path / "fisher_map.json"
    assert find(stores=[store]).path == file


def test_when_no_map_fits_each_is_told(find, file, store, other_store):
    (other_store.path / "fisher_map.json").write_bytes(file.read_bytes())
    reason = refused(find, stores=[store, other_store])
    assert reason.count("was made for other tensors") == 2


# Maps of Side-Step


@pytest.fixture
def published(model, store, file, tmp_path):
    """A set of .pt files with a map as Side-Step writes it."""
    folder = tmp_path / "pt"
    folder.mkdir()
    for name, size in (("b.pt", 30), ("a.pt", 7)):
        (folder / name).write_bytes(b"x" * size)
    data = json.loads(file.read_text())
    for key in ("model_identity", "parameter_budget", "adapter_type", "ranking_error", "num_hidden_layers"):
        del data[key]
    data["dataset_hash"] = hashlib.md5(b"a.pt:7|b.pt:30").hexdigest()[:12]
    (folder / "fisher_map.json").write_text(json.dumps(data))
    return folder


def test_a_map_of_side_step_is_used_where_its_files_are_as_it_saw_them(find, published):
    assert find(stores=[open_store(published)]).ranks["layers.1.mlp.up_proj"] == (40, 80)


@pytest.mark.parametrize("variant", ["base", "acestep-v15-base"])
def test_a_variant_goes_by_its_short_and_its_long_name(find, published, variant):
    change(published / "fisher_map.json", model_variant=variant)
    assert find(stores=[open_store(published)]) is not None


@pytest.mark.parametrize("variant", ["sft", "acestep-v15-turbo", "xl-base", ""])
def test_a_map_of_side_step_for_another_variant_is_refused(find, published, variant):
    change(published / "fisher_map.json", model_variant=variant)
    reason = refused(find, stores=[open_store(published)])
    assert f"was made for the model {variant!r}, not for 'acestep-v15-base'" in reason


def test_a_map_of_side_step_is_refused_when_a_file_was_added(find, published):
    (published / "c.pt").write_bytes(b"x")
    assert "was made for other tensors" in refused(find, stores=[open_store(published)])


def test_a_map_of_side_step_beside_other_tensors_is_refused(find, published, store):
    (store.path / "fisher_map.json").write_bytes((published / "fisher_map.json").read_bytes())
    assert "was made for other tensors" in refused(find)


@pytest.mark.parametrize(
    ("name", "short"),
    [("acestep-v15-base", "base"), ("acestep-v15-xl-turbo", "xl-turbo"), ("base", "base"), ("my", "my")],
)
def test_a_variant_is_known_without_what_folders_put_in_front(name, short):
    assert plain_variant(name) == short


# Where it goes


def test_the_map_goes_beside_the_first_tensors(store, tmp_path):
    assert map_file(AnalyzeConfig(dataset_dir=(store.path, tmp_path))) == store.path / "fisher_map.json"


@pytest.mark.parametrize(
    ("output", "file"),
    [("here.json", "here.json"), ("folder", "folder/fisher_map.json"), ("x.json/y.json", "x.json/y.json")],
)
def test_an_output_is_a_file_or_a_folder(tmp_path, output, file):
    config = AnalyzeConfig(dataset_dir=(tmp_path,), output=tmp_path / output)
    assert map_file(config) == tmp_path / file


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"nothing can be written to '.*file'; choose another place with --output"):
        map_file(AnalyzeConfig(dataset_dir=(tmp_path,), output=tmp_path / "file" / "map.json"))
