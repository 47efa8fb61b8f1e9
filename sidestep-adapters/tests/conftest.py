"""A tiny decoder, its projections as plain modules under their original names, and the libraries as readers."""

from pathlib import Path

import attrs
import peft
import pytest
import torch
from lycoris.wrapper import create_lycoris_from_weights
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.configs import TargetsConfig
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path
from sidestep_core.specs import BuildContext
from sidestep_core.targets import choose_targets
from torch import nn

TYPES = {spec.name: spec for spec in sidestep_adapters()}


@pytest.fixture
def model(tiny_checkpoint):
    return resolve_model(tiny_checkpoint, "base")


@pytest.fixture
def decoder(model):
    return load_decoder(model)


@pytest.fixture
def targets(model):
    return choose_targets(projection_shapes(model.dims), TargetsConfig())


@pytest.fixture
def few(targets):
    """Projections of every shape: square, few outputs, many outputs, many inputs."""
    names = ("self_attn.q_proj", "cross_attn.k_proj", "mlp.up_proj", "mlp.down_proj")
    return tuple(target for target in targets if target.name in {f"layers.1.{name}" for name in names})


@pytest.fixture
def attach(decoder):
    """Return a function that puts an adapter of a type (by name) with a config on the decoder, or on another."""

    def attach(name, config, targets, *, seed=0, decoder=decoder):
        adapter = TYPES[name].build(config, BuildContext(seed=seed))
        adapter.attach(decoder, targets)
        return adapter

    return attach


@attrs.define
class Plain:
    """The decoder's projections before there was an adapter."""

    weights: dict[str, torch.Tensor]

    def tree(self):
        """Return frozen modules of these weights under their original names."""
        root = nn.Module()
        for name, weight in self.weights.items():
            parent, *path = root, *name.split(".")
            for part in path[:-1]:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            linear = nn.Linear(*weight.T.shape, bias=False)
            linear.weight.data.copy_(weight)
            parent.add_module(path[-1], linear.requires_grad_(False))
        return root

    def read(self, folder: Path):
        """Return a tree with a saved adapter on it, read by the library that its format belongs to."""
        tree = self.tree()
        if (folder / "adapter_config.json").is_file():
            return peft.PeftModel.from_pretrained(tree, folder).base_model.model.eval()
        (file,) = folder.glob("*.safetensors")
        with torch.no_grad():
            network, _ = create_lycoris_from_weights(1.0, str(file), tree)
        network.apply_to()
        return tree

    @torch.no_grad()
    def deltas(self, folder: Path):
        """Return the weight differences that the library makes of a saved adapter."""
        tree, found = self.read(folder), {}
        for name, weight in self.weights.items():
            difference = tree.get_submodule(name)(torch.eye(weight.shape[1])).T - weight
            if difference.any():
                found[name] = difference
        return found


@pytest.fixture
def plain(model, targets):
    decoder = load_decoder(model)
    return Plain({t.name: decoder.get_submodule(f"transformer.{module_path(t.name)}").weight for t in targets})


def stir(adapter, size=0.1):
    """Give every parameter some random values, so that the adapter does something."""
    generator = torch.Generator().manual_seed(3)
    for _, weight in adapter.parameters():
        weight.data.add_(size * torch.randn(weight.shape, generator=generator))


@pytest.fixture(name="stir")
def stir_fixture():
    return stir


@pytest.fixture
def inputs(decoder):
    """Return a function that makes inputs of a decoder."""

    def inputs(decoder=decoder, length=40):
        generator = torch.Generator().manual_seed(2)
        noisy = torch.randn(2, length, 64, generator=generator).to(decoder.dtype)
        rows = torch.randn(2, 6, decoder.dims.condition_size, generator=generator).to(decoder.dtype)
        return noisy, torch.tensor([0.3, 0.8]), rows

    return inputs
