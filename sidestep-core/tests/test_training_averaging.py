"""The average of the weights: its values, its state, and weights that come back exactly as they were."""

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file
from schedulefree import AdamWScheduleFree
from sidestep_core.device import make_accelerator
from sidestep_core.errors import ResumeError
from sidestep_core.events import StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.runs import checkpoints
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.averaging import Average, final_weights
from sidestep_core.training.loop import train
from torch import nn


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_checkpoint):
    model = resolve_model(tiny_checkpoint, "base")
    return write_noise(tmp_path_factory.mktemp("store"), model, frames=[50, 64], rows=[5])


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def set_to(param, value):
    with torch.no_grad():
        param.fill_(value)


def prepared(optimizer):
    make_accelerator("cpu", "fp32")
    return AcceleratedOptimizer(optimizer)


def test_each_step_takes_in_a_share_of_the_weights():
    live = parameter(1.0)
    average = Average([("a", live)], 0.9)
    seen = []
    for value in (2.0, 3.0, 4.0):
        set_to(live, value)
        average.update()
        seen.append(average.values[0].item())
    assert seen == pytest.approx([1.100000023841858, 1.290000081062317, 1.561000108718872], rel=1e-6)


def test_it_starts_at_the_weights_as_they_are_and_does_not_follow_them_by_itself():
    live = parameter(1.0, 2.0)
    average = Average([("a", live)], 0.5)
    set_to(live, 9.0)
    assert average.values[0].tolist() == [1.0, 2.0]


def test_it_can_begin_anew():
    live = parameter(1.0)
    average = Average([("a", live)], 0.5)
    set_to(live, 9.0)
    average.restart()
    assert average.values[0].tolist() == [9.0]


def test_its_state_comes_back_by_name():
    first, second = parameter(1.0), parameter(2.0, 3.0)
    state = Average([("a", first), ("b", second)], 0.5).state_dict()
    other = Average([("b", parameter(0.0, 0.0)), ("a", parameter(0.0))], 0.5)
    other.load_state_dict(state)
    assert [value.tolist() for value in other.values] == [[2.0, 3.0], [1.0]]


def test_a_state_of_other_weights_is_refused():
    with pytest.raises(ResumeError, match="2 differ, first 'a'"):
        Average([("a", parameter(1.0))], 0.5).load_state_dict({"b": torch.ones(1)})


def test_what_is_given_away_is_the_average_and_the_weights_come_back():
    live = parameter(1.0)
    average, optimizer = Average([("a", live)], 0.5), prepared(torch.optim.SGD([live], lr=0.1))
    set_to(live, 3.0)
    with final_weights([live], optimizer, average):
        assert live.item() == 1.0
    assert (live.item(), average.values[0].item()) == (3.0, 1.0)


def test_the_weights_come_back_after_a_failure():
    live = parameter(1.0)
    average, optimizer = Average([("a", live)], 0.5), prepared(torch.optim.SGD([live], lr=0.1))
    set_to(live, 3.0)
    with pytest.raises(OSError, match="disk full"), final_weights([live], optimizer, average):
        raise OSError("disk full")
    assert live.item() == 3.0


def test_an_optimizer_that_averages_itself_gives_that_away_and_goes_on_to_the_bit():
    torch.manual_seed(0)
    live = nn.Parameter(torch.randn(1000))
    inner = AdamWScheduleFree([live], lr=0.01)
    optimizer = prepared(inner)
    optimizer.train()
    for _ in range(5):
        live.grad = torch.randn(1000)
        optimizer.step()
    before, averaged = live.detach().clone(), inner.state[live]["z"].clone()
    with final_weights([live], optimizer, None):
        given = live.detach().clone()
    assert not given.equal(before)
    assert live.equal(before)
    assert inner.state[live]["z"].equal(averaged)
    assert inner.param_groups[0]["train_mode"]


def weights(path):
    return load_file(path / "small.safetensors")


def test_a_run_gives_the_average_away_and_keeps_the_weights_beside_it(tmp_path, tiny_checkpoint, store):
    averaged = tiny_plan(tiny_checkpoint, store, tmp_path / "averaged", train={"ema_decay": 0.5})
    plain = tiny_plan(tiny_checkpoint, store, tmp_path / "plain")
    for made in (averaged, plain):
        list(train(made))
    folder = checkpoints(averaged.run)[-1][1]
    raw, average = load_file(folder / "adapter.safetensors"), load_file(folder / "average.safetensors")
    final = weights(averaged.run / "final")
    # the average is only looked at: the run itself is the one without it
    assert all(raw[name].equal(value) for name, value in weights(plain.run / "final").items())
    assert all(final[name].equal(value) for name, value in average.items())
    assert not all(final[name].equal(value) for name, value in raw.items())


@pytest.mark.parametrize(("decay", "said"), [(0.5, True), (0.0, False)])
def test_the_files_say_whether_they_hold_the_average(tmp_path, tiny_checkpoint, store, decay, said):
    made = tiny_plan(tiny_checkpoint, store, tmp_path / "run", train={"ema_decay": decay, "max_steps": 1})
    list(train(made))
    for folder in (made.run / "final", checkpoints(made.run)[-1][1] / "adapter"):
        assert ("weights: exponential average, decay 0.5" in (folder / "metadata.txt").read_text()) is said


def test_saving_often_does_not_change_a_schedule_free_run(tmp_path, tiny_checkpoint, store):
    losses = []
    for name, every in (("often", 1), ("rarely", 100)):
        plan = tiny_plan(
            tiny_checkpoint,
            store,
            tmp_path / name,
            components=tiny_components(optimizer="schedule_free", controllers=("constant",)),
            run={"save_every_steps": every},
        )
        losses.append([event.loss for event in train(plan) if isinstance(event, StepsDone)])
    assert losses[0] == losses[1]


def test_the_estimate_of_memory_has_room_for_the_average(tmp_path, tiny_checkpoint, store):
    with_it = tiny_plan(tiny_checkpoint, store, tmp_path / "run", train={"ema_decay": 0.5})
    without = tiny_plan(tiny_checkpoint, store, tmp_path / "run")
    assert with_it.memory.adapter - without.memory.adapter == 4 * with_it.trainable
