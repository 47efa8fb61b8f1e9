"""Every adapter type learns from the demonstration's songs, through installed components and real preprocessing."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from sidestep_core.configs import DataConfig, ModelConfig, PreprocessConfig, RunConfig, TrainConfig
from sidestep_core.demo.run import SONG_SECONDS
from sidestep_core.events import PreprocessFinished
from sidestep_core.model.load import load_decoder
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.runs import checkpoints
from sidestep_core.settings import Settings
from sidestep_core.specs import BuildContext
from sidestep_core.store.index import open_store
from sidestep_core.store.tensors import load_conditioning, load_latents
from sidestep_core.synthetic import write_songs
from sidestep_core.toolkit import Toolkit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    return Toolkit(settings=Settings(tmp_path_factory.mktemp("settings") / "none.toml"))


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ModelConfig(checkpoint_dir=tiny_checkpoint, model="base", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def tensors(tmp_path_factory, toolkit, model):
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder / "songs", seconds=SONG_SECONDS)
    made = PreprocessConfig(audio_dir=folder / "songs", tensor_output=folder / "tensors", workers=1)
    *_, last = toolkit.preprocess(made, model)
    assert isinstance(last, PreprocessFinished)
    assert last.written == len(SONG_SECONDS)
    return folder / "tensors"


@torch.no_grad()
def fixed_loss(decoder, store):
    """Return the mean error over every song, at fixed noise and timesteps."""
    losses = []
    for number, song in enumerate(store.songs):
        latents = load_latents(store, song).mean[None].float()
        rows = load_conditioning(store, song)[None].float()
        for t in (0.1, 0.3, 0.5, 0.7, 0.9):
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
            flow = decoder(t * noise + (1 - t) * latents, torch.tensor([t]), rows)
            losses.append(float((flow - (noise - latents)).square().mean()))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", ["lora", "dora", "lokr", "loha", "oft"])
def test_it_learns_from_the_songs_of_the_demonstration(toolkit, model, tensors, tmp_path, name):
    request = TrainRequest(
        model=model,
        data=DataConfig(dataset_dir=(tensors,)),
        train=TrainConfig(epochs=1000, max_steps=60, accumulation=2, warmup_steps=4, learning_rate=5e-3),
        run=RunConfig(output_dir=tmp_path / "run"),
        adapter=Choice(name=name),
    )
    plan = toolkit.plan(request)
    for _ in toolkit.train(plan):
        pass
    decoder = load_decoder(plan.model)
    untrained = fixed_loss(decoder, open_store(tensors))
    adapter = plan.components.adapter.build(BuildContext(seed=request.train.seed))
    adapter.attach(decoder, plan.targets)
    adapter.load_state_dict(load_file(checkpoints(plan.run)[-1][1] / "adapter.safetensors"))
    trained = fixed_loss(decoder.eval(), open_store(tensors))
    assert trained < 0.95 * untrained
