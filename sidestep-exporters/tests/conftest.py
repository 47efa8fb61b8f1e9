"""Adapters of every type, trained a little on the tiny model, and what their own code says they do."""

import attrs
import pytest
import torch
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.configs import TargetsConfig
from sidestep_core.formats.base import BaseWeights
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.specs import BuildContext
from sidestep_core.targets import choose_targets
from sidestep_exporters.plugin import sidestep_exporters

TYPES = {spec.name: spec for spec in sidestep_adapters()}
TARGETS = {spec.name: spec for spec in sidestep_exporters()}
CASES = {
    "lora": ("lora", LoraConfig(rank=4, alpha=10, dropout=0.0)),
    "pissa": ("lora", LoraConfig(rank=4, alpha=4, dropout=0.0, init_weights="pissa")),
    "dora": ("dora", DoraConfig(rank=4, alpha=10, dropout=0.0)),
    "lokr": ("lokr", LokrConfig()),
    "lokr split": ("lokr", LokrConfig(rank=3, alpha=5)),
    "lokr with lengths": ("lokr", LokrConfig(rank=3, alpha=5, weight_decompose=True)),
    "loha": ("loha", LohaConfig(rank=4, alpha=6)),
    "oft": ("oft", OftConfig(block_size=16)),
    "coft": ("oft", OftConfig(block_size=16, coft=True, eps=0.5)),
}


@attrs.frozen(eq=False)
class Trained:
    """A saved adapter and its differences, as the adapter itself gives them."""

    folder: object
    deltas: dict


@pytest.fixture(scope="session")
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture(scope="session")
def trained(model, tmp_path_factory):
    """Return a function that gives a trained adapter of a case; each is made once."""
    made = {}

    def make(case):
        if case not in made:
            name, config = CASES[case]
            decoder = load_decoder(model)
            # one layer has projections of every shape
            layer = TargetsConfig(include_modules=("layers.1.*",))
            targets = choose_targets(projection_shapes(model.dims), layer)
            adapter = TYPES[name].build(config, BuildContext(seed=0))
            adapter.attach(decoder, targets)
            generator = torch.Generator().manual_seed(3)
            for _, weight in adapter.parameters():
                weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
            folder = tmp_path_factory.mktemp("run") / "final"
            adapter.save(folder, metadata={"run": "r1", "trigger_tag": "ohm"})
            made[case] = Trained(folder, dict(adapter.deltas()))
        return made[case]

    return make


@pytest.fixture(scope="session")
def weights(model):
    """The model's own weights by original names."""
    base = BaseWeights(model)
    return {name: base.weight(name) for name in projection_shapes(model.dims)}


@pytest.fixture(scope="session")
def targets():
    """The exporters of this package by name."""
    return TARGETS


@pytest.fixture
def export(model, tmp_path):
    """Return a function that exports an adapter with the tiny model known; settings of the target go by `config`."""

    def run(adapter, target, config=None, **more):
        request = ExportRequest(**{"adapter": adapter, "model": model, "output": tmp_path / "out", **more})
        return TARGETS[target].build(config).export(request)

    return run
