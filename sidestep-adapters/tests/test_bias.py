"""Projections with a bias: every type updates the weight alone."""

import pytest
import torch
from sidestep_adapters.configs import LokrConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.specs import BuildContext
from sidestep_core.targets import Target
from torch import nn

TYPES = {spec.name: spec for spec in sidestep_adapters()}


@pytest.mark.parametrize(
    ("name", "config"),
    [*((name, spec.config()) for name, spec in TYPES.items()), ("lokr", LokrConfig(weight_decompose=True))],
)
def test_the_bias_is_added_as_it_was(stir, name, config):
    model = nn.ModuleDict({"transformer": nn.ModuleDict({"it": nn.Linear(16, 24)})}).eval()
    frozen = model["transformer"]["it"]
    adapter = TYPES[name].build(config, BuildContext())
    adapter.attach(model, [Target(name="it", out_features=24, in_features=16)])
    stir(adapter)
    x = torch.randn(3, 16)
    expected = x @ (frozen.weight + dict(adapter.deltas())["it"]).T + frozen.bias
    assert torch.allclose(model["transformer"]["it"](x), expected, atol=1e-5 * expected.abs().max())
