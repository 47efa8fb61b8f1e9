"""What cannot be trained is refused in one clear line, as a wrong input, before anything is written."""

import attrs
import pytest
import safetensors.torch
import torch
from sidestep_core.configs import DataConfig, ModelConfig, RunConfig, TrainConfig
from sidestep_core.conversion import structure
from sidestep_core.errors import SidestepError
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.store.index import write_index
from sidestep_core.testing.tiny_run import write_noise
from sidestep_core.toolkit import Toolkit

HOSTILE = ("().__class__.__bases__[0].__subclasses__()", "__import__('os').system('id')", "9**9**9**9", "open('x')")


@pytest.fixture
def toolkit(tmp_path):
    return Toolkit(settings=Settings(tmp_path / "settings.toml"))


@pytest.fixture
def store(tmp_path, tiny_checkpoint):
    return write_noise(tmp_path / "tensors", resolve_model(tiny_checkpoint, "base"), frames=[50, 60], rows=[5])


@pytest.fixture
def request_for(tmp_path, tiny_checkpoint, store):
    def make(model=None, data=None, **changes):
        return TrainRequest(
            model=ModelConfig(**{"checkpoint_dir": tiny_checkpoint, "device": "cpu", **(model or {})}),
            data=DataConfig(**{"dataset_dir": (store.path,), **(data or {})}),
            run=RunConfig(output_dir=tmp_path / "run"),
            train=TrainConfig(max_steps=2),
            **changes,
        )

    return make


def settings_of(toolkit, kind, name, **values):
    """Return a component with its settings, made of plain values as a command line or a preset gives them."""
    return Choice(name=name, config=structure(values, toolkit.registry(kind)[name].config, name))


@pytest.fixture
def refused(toolkit, tmp_path):
    """A function that starts a run which must not start, and returns why it did not."""

    def run(make_request):
        with pytest.raises(SidestepError) as error:
            for _ in toolkit.train(toolkit.plan(make_request())):
                pass
        # a second line may say what there is instead
        line, *hint = str(error.value).splitlines()
        assert (error.value.exit_code, len(hint) <= 1) == (2, True)
        assert not (tmp_path / "run").exists()
        return line

    return run


def test_a_run_that_can_start_does(toolkit, request_for, tmp_path):
    list(toolkit.train(toolkit.plan(request_for())))
    assert (tmp_path / "run" / "final").is_dir()


def test_a_folder_without_a_finished_song(refused, request_for, store):
    write_index(attrs.evolve(store, songs=()))
    assert "holds no finished song yet" in refused(request_for)


def test_songs_that_are_never_visited(refused, request_for, store):
    write_index(attrs.evolve(store, songs=tuple(attrs.evolve(song, repeat=0) for song in store.songs)))
    assert "holds no song to train on" in refused(request_for)


def test_a_rank_above_the_highest(refused, request_for, toolkit):
    line = refused(lambda: request_for(adapter=settings_of(toolkit, "adapter", "lora", rank=1025)))
    assert line == "lora.rank: must be at most 1024, got 1025"


def test_a_sampler_nobody_offers(refused, request_for):
    line = refused(lambda: request_for(timesteps=Choice(name="continous")))
    assert line.startswith("no timestep-sampler 'continous'; there is ")
    assert line.endswith("did you mean 'continuous'?")


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"data": {"dataset_dir": ()}}, "give --dataset-dir"),
        ({"data": {"dataset_dir": ("nowhere",)}}, "no tensor folder at 'nowhere'"),
        ({"model": {"checkpoint_dir": "nowhere"}}, "nowhere"),
    ],
    ids=["none", "tensors", "checkpoints"],
)
def test_a_path_where_nothing_is(refused, request_for, tables, words):
    assert words in refused(lambda: structured(request_for(), tables))


def structured(request, tables):
    """Return a request with settings changed as a preset would change them."""
    data = {"data": DataConfig, "model": ModelConfig}
    base = {"model": {"device": "cpu"}, "data": {}}
    made = {name: structure({**base[name], **values}, data[name], name) for name, values in tables.items()}
    return attrs.evolve(request, **made)


@pytest.mark.parametrize("formula", HOSTILE)
def test_a_formula_that_is_none(refused, request_for, toolkit, formula):
    def make_request():
        chosen = settings_of(toolkit, "lr-controller", "custom", scheduler_formula=formula)
        return request_for(controllers=(chosen,))

    assert f"formula {formula!r}" in refused(make_request)


@pytest.mark.parametrize(("folder", "name"), [("latents", "latents"), ("conditioning", "conditioning")])
def test_a_tensor_file_that_is_not_finite_by_its_name(refused, request_for, store, folder, name):
    file = sorted((store.path / folder).iterdir())[0]
    tensor = safetensors.torch.load_file(file)[name]
    tensor[0, 0] = torch.nan
    safetensors.torch.save_file({name: tensor}, file)
    assert f"{file.name}' holds values that are not finite" in refused(request_for)


def test_folders_that_do_not_go_together(refused, request_for, store, tmp_path, tiny_checkpoint):
    other = write_noise(tmp_path / "other", resolve_model(tiny_checkpoint, "base"), frames=[50], seed=1)
    write_index(attrs.evolve(other, conditioning="side-step"))
    line = refused(lambda: request_for(data={"dataset_dir": (store.path, other.path)}))
    assert "conditioning is 'inference' and 'side-step'" in line


def test_a_weighting_under_which_nothing_counts(refused, request_for):
    train = TrainConfig(loss_weighting="min_snr", timestep_min=0.9999999, timestep_max=1.0)
    request = request_for(timesteps=Choice(name="discrete"))
    assert "--loss-weighting min_snr gives every timestep" in refused(lambda: attrs.evolve(request, train=train))
