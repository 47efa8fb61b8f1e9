"""The optimizers: how they step, what they keep, and that their state goes through a checkpoint unchanged."""

import io
import json
import sys
from contextlib import redirect_stdout

import pytest
import torch
from safetensors.torch import load, save
from sidestep_core.builtins import plugin
from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.builtins.optimizers import adamw8bit
from sidestep_core.builtins.optimizers.adamw import AdamW
from sidestep_core.builtins.optimizers.adamw8bit import AdamW8bit
from sidestep_core.builtins.optimizers.prodigy import Prodigy
from sidestep_core.builtins.optimizers.schedule_free import ScheduleFreeAdamW
from sidestep_core.errors import ConfigError
from sidestep_core.specs import BuildContext
from sidestep_core.training.checkpoints import join_optimizer, split_optimizer
from torch import nn

SPECS = {spec.name: spec for spec in plugin.sidestep_optimizers()}
NAMES = sorted(SPECS)
# large enough for 8-bit states, which bitsandbytes keeps from 4096 values on
SHAPES = [(16, 512), (512, 16), (12,)]


def weights():
    """Return parameters like an adapter's: one random, one of zeros, one small."""
    torch.manual_seed(0)
    values = [torch.randn(SHAPES[0]) / 10, torch.zeros(SHAPES[1]), torch.ones(SHAPES[2])]
    return [nn.Parameter(value) for value in values]


def groups(parameters, rate=0.01):
    return [{"params": parameters[:2], "lr": rate}, {"params": parameters[2:], "lr": rate}]


def make(name, parameters, weight_decay=0.01):
    config = WeightDecayConfig(weight_decay=weight_decay)
    return SPECS[name].build(config, BuildContext()).create(groups(parameters))


def step(optimizer, count, start=0):
    """Take steps towards a fixed point, at a rate that changes from step to step."""
    for index in range(start, start + count):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - index / 100)
            for parameter in group["params"]:
                noise = torch.Generator().manual_seed(index)
                parameter.grad = parameter.detach() - 0.5 + torch.randn(parameter.shape, generator=noise) / 10
        optimizer.step()
        optimizer.zero_grad()


def distance(parameters):
    return sum((parameter.detach() - 0.5).square().sum().item() for parameter in parameters)


def through_a_checkpoint(state):
    """Return an optimizer's state as it comes back from the files of a checkpoint."""
    tensors, plain = split_optimizer(state)
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return join_optimizer(load(save(copies)), json.loads(json.dumps(plain)))


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name):
    parameters = weights()
    before = distance(parameters)
    step(make(name, parameters), 30)
    assert distance(parameters) < before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_resumed_run_ends_in_the_same_bits(name, stop):
    straight = weights()
    step(make(name, straight), 12)

    first = weights()
    optimizer = make(name, first)
    step(optimizer, stop)
    again = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    resumed = make(name, again)
    resumed.load_state_dict(through_a_checkpoint(optimizer.state_dict()))
    step(resumed, 12 - stop, start=stop)

    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_what_was_set(name):
    assert {group["weight_decay"] for group in make(name, weights(), weight_decay=0.3).param_groups} == {0.3}


@pytest.mark.parametrize("name", NAMES)
def test_groups_keep_their_own_rate(name):
    assert [group["lr"] for group in make(name, weights()).param_groups] == [0.01, 0.01]


@pytest.mark.parametrize("name", NAMES)
def test_the_given_groups_are_left_alone(name):
    given = groups(weights())
    SPECS[name].build(None, BuildContext()).create(given)
    assert set(given[0]) == {"params", "lr"}


@pytest.mark.parametrize("name", NAMES)
def test_making_one_prints_nothing(name):
    with redirect_stdout(io.StringIO()) as printed:
        make(name, weights())
    assert printed.getvalue() == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "adafactor"])
def test_it_keeps_as_many_bytes_as_it_says(name):
    parameters = weights()[:2]
    optimizer = SPECS[name].build(None, BuildContext()).create([{"params": parameters, "lr": 0.01}])
    step(optimizer, 1)
    # a table of 256 values belongs to all tensors alike; Prodigy does without its copy of a weight that starts at 0
    kept = [v for s in optimizer.state.values() for k, v in s.items() if torch.is_tensor(v) and "qmap" not in k]
    saved = 4 * parameters[1].numel() if name == "prodigy" else 0
    held = sum(tensor.numel() * tensor.element_size() for tensor in kept) + saved
    assert held / sum(p.numel() for p in parameters) == pytest.approx(SPECS[name].bytes_per_parameter, rel=0.01)


def test_adafactor_keeps_less_than_it_says():
    parameters = weights()[:2]
    optimizer = SPECS["adafactor"].build(None, BuildContext()).create([{"params": parameters, "lr": 0.01}])
    step(optimizer, 1)
    kept = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    held = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    assert held / sum(p.numel() for p in parameters) <= SPECS["adafactor"].bytes_per_parameter


# AdamW


def test_adamw_steps_as_torch_does():
    ours, plain = weights(), weights()
    step(make("adamw", ours), 5)
    step(torch.optim.AdamW(groups(plain), weight_decay=0.01, fused=False), 5)
    assert all(torch.allclose(a, b) for a, b in zip(ours, plain, strict=True))


def test_adamw_is_fused_on_the_cpu():
    assert make("adamw", weights()).param_groups[0]["fused"] is True


# AdamW with 8-bit states


def test_large_weights_have_8_bit_states():
    parameters = weights()
    optimizer = make("adamw8bit", parameters)
    step(optimizer, 1)
    dtypes = [optimizer.state[parameter]["state1"].dtype for parameter in parameters]
    assert dtypes == [torch.uint8, torch.uint8, torch.float32]


def test_8_bit_states_go_about_the_same_way():
    eight, plain = weights(), weights()
    step(make("adamw8bit", eight), 10)
    step(make("adamw", plain), 10)
    moved = (plain[0] - weights()[0]).norm()
    assert (eight[0] - plain[0]).norm() < 0.1 * moved


def test_where_it_runs_there_is_nothing_to_say():
    factory = AdamW8bit(WeightDecayConfig(), BuildContext())
    factory.create(groups(weights()))
    assert factory.notices == ()


def test_without_bitsandbytes_it_is_adamw_and_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "sidestep_core.builtins.optimizers.eight_bit", raising=False)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    factory = AdamW8bit(WeightDecayConfig(weight_decay=0.2), BuildContext())
    optimizer = factory.create(groups(weights()))
    assert (type(optimizer), optimizer.param_groups[0]["weight_decay"]) == (torch.optim.AdamW, 0.2)
    [line] = factory.notices
    assert "adamw takes its place" in line
    assert "pip install 'sidestep-core[bnb]'" in line


def test_where_a_step_fails_it_is_adamw_and_says_why(monkeypatch):
    def broken(devices):
        raise RuntimeError("no kernel image is available\nfor this device")

    monkeypatch.setattr(adamw8bit, "_working", broken)
    factory = AdamW8bit(WeightDecayConfig(), BuildContext())
    assert isinstance(factory.create(groups(weights())), torch.optim.AdamW)
    assert factory.notices == ("adamw8bit cannot run here and adamw takes its place (no kernel image is available)",)


# Prodigy


def test_prodigy_has_the_settings_its_users_know():
    group = make("prodigy", weights()).param_groups[0]
    wanted = {"betas": (0.9, 0.99), "eps": 1e-8, "use_bias_correction": True, "safeguard_warmup": True}
    assert wanted.items() <= group.items()


def test_prodigy_raises_its_step_size():
    parameters = weights()
    optimizer = SPECS["prodigy"].build(None, BuildContext()).create([{"params": parameters, "lr": 1.0}])
    for _ in range(20):
        for parameter in parameters:
            parameter.grad = parameter.detach() - 0.5
        optimizer.step()
    assert optimizer.param_groups[0]["d"] > 10 * optimizer.param_groups[0]["d0"]


def test_prodigy_refuses_groups_with_rates_of_their_own():
    parameters = weights()
    own = [{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": 16.0}]
    with pytest.raises(ConfigError, match=r"one step size .* rates of 1, 16; leave out"):
        Prodigy(WeightDecayConfig(), BuildContext()).create(own)


def test_a_rate_of_zero_changes_nothing():
    parameters = weights()
    optimizer = make("prodigy", parameters)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, weights(), strict=True))


# schedule-free


def schedule_free(parameters):
    return ScheduleFreeAdamW(WeightDecayConfig(), BuildContext()).create(groups(parameters))


def test_schedule_free_is_ready_to_step():
    assert schedule_free(weights()).param_groups[0]["train_mode"] is True


def test_schedule_free_gives_away_other_weights_than_it_trains_on():
    parameters = weights()
    optimizer = schedule_free(parameters)
    step(optimizer, 5)
    trained = parameters[0].detach().clone()
    optimizer.eval()
    assert not torch.equal(parameters[0], trained)


def test_giving_weights_away_in_between_changes_nothing_if_the_own_are_put_back():
    straight, interrupted = weights(), weights()
    step(schedule_free(straight), 8)
    optimizer = schedule_free(interrupted)
    step(optimizer, 4)
    own = [parameter.detach().clone() for parameter in interrupted]
    optimizer.eval()
    optimizer.train()
    for parameter, value in zip(interrupted, own, strict=True):
        parameter.data.copy_(value)
    step(optimizer, 4, start=4)
    assert all(torch.equal(a, b) for a, b in zip(straight, interrupted, strict=True))


def test_adamw_is_made_from_its_class_alone():
    assert isinstance(AdamW(WeightDecayConfig(), BuildContext()).create(groups(weights())), torch.optim.AdamW)


def test_auto_is_adamw_where_there_is_no_cuda():
    made, plain = weights(), weights()
    step(make("auto", made), 3)
    step(make("adamw", plain), 3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made, plain, strict=True))


def test_auto_asks_for_eight_bits_on_cuda(monkeypatch):
    class OnCuda(nn.Parameter):
        device = torch.device("cuda")

    asked = []
    monkeypatch.setattr(AdamW8bit, "create", lambda self, groups: asked.append(groups) or "made")
    factory = SPECS["auto"].build(WeightDecayConfig(), BuildContext())
    assert factory.create([{"params": [OnCuda(torch.zeros(1))], "lr": 0.1}]) == "made"
    assert len(asked) == 1
