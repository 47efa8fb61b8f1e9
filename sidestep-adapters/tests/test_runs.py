"""Whole runs of every adapter type: resumed to the byte, learning, and saved as what was trained."""

import attrs
import pytest
import torch
from safetensors.torch import load_file
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.builtins.configs import CruiseConfig
from sidestep_core.events import EpochDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.requests import Chosen
from sidestep_core.runs import checkpoints
from sidestep_core.specs import BuildContext
from sidestep_core.store.tensors import load_conditioning, load_latents
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training import sharing
from sidestep_core.training.loop import train

TYPES = {spec.name: spec for spec in sidestep_adapters()}
CONFIGS = {
    "lora": LoraConfig(rank=4, alpha=8, dropout=0.1),
    "dora": DoraConfig(rank=4, alpha=8, dropout=0.1),
    "lokr": LokrConfig(rank=4, alpha=8),
    "loha": LohaConfig(rank=4, alpha=8),
    "oft": OftConfig(block_size=16),
}
OPTIMIZERS = ["adamw", "adafactor", "prodigy"]
EVERYTHING = {
    "train": {"epochs": 3, "accumulation": 2, "conditioning_dropout": 0.4, "ema_decay": 0.8, "learning_rate": None},
    "data": {"max_latent_length": 40},
}
CRUISE = CruiseConfig(target_loss=2.0, target_loss_warmup=2, target_loss_smoothing=0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    folder = tmp_path_factory.mktemp("store")
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(folder, model, frames=[50, 64, 71, 33, 80], rows=[5, 9], latent="resample")


def components(name, optimizer="adamw", **more):
    made = tiny_components(optimizer=optimizer, **more)
    return attrs.evolve(made, adapter=Chosen(spec=TYPES[name], config=CONFIGS[name]))


@pytest.fixture
def plan(tmp_path, tiny_checkpoint, store):
    """Return a function that plans a run with everything that has a state."""

    def make(name, optimizer, run, resume_from=None):
        parts = components(name, optimizer, timesteps="adaptive", controllers=("cosine", "cruise"), cruise=CRUISE)
        tables = {**EVERYTHING, "run": {"resume_from": resume_from}}
        return tiny_plan(tiny_checkpoint, store, tmp_path / run, parts, **tables)

    return make


@pytest.fixture
def batches(monkeypatch):
    """Return the batches that were run, a list that grows."""
    run = []

    def counted(*args):
        run.append(args)
        return real(*args)

    real = sharing.backward
    monkeypatch.setattr(sharing, "backward", counted)
    return run


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_resume(plan, batches, name, optimizer, after):
    list(train(plan(name, optimizer, "straight")))
    batches.clear()
    list(train(plan(name, optimizer, "stopped"), stop=lambda: len(batches) >= after))
    resumed = plan(name, optimizer, "stopped", "latest")
    list(train(resumed))
    assert files(resumed.run / "final") == files(resumed.run.parent / "straight" / "final")


@pytest.mark.parametrize("name", TYPES)
def test_a_run_stopped_inside_an_accumulation_ends_in_the_same_bytes(plan, batches, name):
    check_resume(plan, batches, name, "adamw", after=3)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 6, 11])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", TYPES)
def test_a_run_stopped_anywhere_ends_in_the_same_bytes(plan, batches, name, optimizer, after):
    check_resume(plan, batches, name, optimizer, after)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_checkpoint, store):
    """Return a function that gives the plan and the epochs' losses of a longer run of a type; each is run once."""
    done = {}

    def get(name):
        if name not in done:
            run = tmp_path_factory.mktemp("trained") / name
            table = {"epochs": 30, "accumulation": 3, "conditioning_dropout": 0.0, "learning_rate": 1e-2}
            made = tiny_plan(tiny_checkpoint, store, run, components(name), train=table)
            done[name] = made, [event.loss for event in train(made) if isinstance(event, EpochDone)]
        return done[name]

    return get


@pytest.mark.parametrize("name", TYPES)
def test_loss_falls(trained, name):
    _, losses = trained(name)
    assert sum(losses[-5:]) < 0.97 * sum(losses[:5])


@torch.no_grad()
def fixed_loss(decoder, store):
    """Return the mean error over every song at fixed noise and timesteps."""
    total = 0.0
    for number, song in enumerate(store.songs):
        latents = load_latents(store, song).mean[None].float()
        rows = load_conditioning(store, song)[None].float()
        for t in (0.2, 0.5, 0.8):
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
            flow = decoder(t * noise + (1 - t) * latents, torch.tensor([t]), rows)
            total += float((flow - (noise - latents)).square().mean())
    return total


@pytest.mark.parametrize("name", TYPES)
def test_the_saved_adapter_has_the_loss_of_the_trained_one(trained, plain, store, name):
    made, _ = trained(name)
    untrained = load_decoder(made.model)
    live = load_decoder(made.model)
    adapter = TYPES[name].build(CONFIGS[name], BuildContext(seed=made.request.train.seed))
    adapter.attach(live, made.targets)
    adapter.load_state_dict(load_file(checkpoints(made.run)[-1][1] / "adapter.safetensors"))
    saved = load_decoder(made.model)
    for module, difference in plain.deltas(made.run / "final").items():
        saved.get_submodule(f"transformer.{module_path(module)}").weight.data += difference
    losses = [fixed_loss(decoder, store) for decoder in (live, saved, untrained)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("name", TYPES)
def test_the_projections_of_the_plan_and_no_others_are_adapted(trained, plain, name):
    made, _ = trained(name)
    assert set(plain.deltas(made.run / "final")) == {target.name for target in made.targets}
