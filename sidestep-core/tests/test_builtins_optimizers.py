"""AdamW as torch has it."""

import torch
from sidestep_core.builtins.configs import AdamWConfig
from sidestep_core.builtins.optimizers import AdamW
from sidestep_core.specs import BuildContext
from torch import nn


def groups():
    return [{"params": [nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))], "lr": 0.1}]


def step(optimizer):
    parameter = optimizer.param_groups[0]["params"][0]
    parameter.grad = torch.sin(parameter.detach() * 3)
    optimizer.step()
    return parameter.detach().clone()


def make(weight_decay=0.01):
    return AdamW(AdamWConfig(weight_decay=weight_decay), BuildContext()).create(groups())


def test_it_steps_as_torch_does():
    plain = torch.optim.AdamW(groups(), weight_decay=0.01, fused=False)
    torch.testing.assert_close(step(make()), step(plain))


def test_it_is_fused_on_the_cpu():
    assert make().param_groups[0]["fused"] is True


def test_groups_keep_their_own_rate():
    assert make().param_groups[0]["lr"] == 0.1


def test_weight_decay_is_what_was_set():
    assert make(weight_decay=0.3).param_groups[0]["weight_decay"] == 0.3


def test_the_given_groups_are_left_alone():
    given = groups()
    AdamW(AdamWConfig(), BuildContext()).create(given)
    assert set(given[0]) == {"params", "lr"}
