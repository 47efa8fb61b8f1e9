"""Cruise control: known factors, when it begins, and that a resumed run goes on where it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.builtins.configs import CruiseConfig
from sidestep_core.builtins.cruise import Cruise, damping
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import LRControllerContract

# target, floor, averaged loss, last loss, factor
KNOWN = [
    (0.5, 0.01, 0.8, 0.8, 1.0),
    (0.5, 0.01, 0.65, 0.65, 1.0),
    (0.5, 0.01, 0.6, 0.6, 0.7433333333333332),
    (0.5, 0.01, 0.575, 0.575, 0.5049999999999996),
    (0.5, 0.01, 0.55, 0.55, 0.2666666666666671),
    (0.5, 0.01, 0.51, 0.51, 0.02261333333333336),
    (0.5, 0.01, 0.5, 0.5, 0.01),
    (0.5, 0.01, 0.49, 0.49, 0.008187307530779817),
    (0.5, 0.01, 0.45, 0.45, 0.003678794411714424),
    (0.5, 0.01, 0.25, 0.25, 6.737946999085467e-05),
    (0.5, 0.01, 0.6, 0.45, 0.01),
    (0.5, 0.01, 0.45, 0.6, 0.003678794411714424),
    (0.3, 0.05, 0.35, 0.35, 0.603840877914952),
    (0.3, 0.05, 0.28, 0.28, 0.025670855951629636),
    (1.0, 0.1, 1.15, 1.15, 0.5499999999999996),
]
NAMES = "target_loss_scale", "target_loss_ema"
LATER = Progress(step=10, total_steps=100, steps_per_epoch=10, learning_rate=1e-3)
WARMING = Progress(step=0, total_steps=100, steps_per_epoch=10, learning_rate=1e-3)


class TestCruise(LRControllerContract):
    plugin, name = "sidestep_core.builtins.plugin", "cruise"
    config = CruiseConfig(target_loss=0.5)


def cruise(target_loss=0.5, **settings):
    return Cruise(CruiseConfig(target_loss=target_loss, **settings), BuildContext())


def after(controller, losses):
    for step, loss in enumerate(losses):
        controller.observe(loss, step)
    return controller


@pytest.mark.parametrize(("target", "floor", "ema", "loss", "factor"), KNOWN)
def test_the_factors_are_those_known(target, floor, ema, loss, factor):
    assert damping(ema, loss, target=target, floor=floor) == pytest.approx(factor, rel=1e-12)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(1e-3, 10), st.floats(1e-4, 1))
def test_the_factor_lies_between_zero_and_one(ema, loss, target, floor):
    assert 0 <= damping(ema, loss, target=target, floor=floor) <= 1


def test_the_average_keeps_98_per_cent_at_each_step():
    controller = after(cruise(target_loss_warmup=0), [1.0, 0.0])
    assert controller.report()["target_loss_ema"] == pytest.approx(0.98)


def test_the_first_loss_is_the_first_average():
    assert after(cruise(), [0.7]).report()["target_loss_ema"] == 0.7


def test_near_the_target_the_rate_is_lowered():
    assert after(cruise(), [0.55] * 50).scale(LATER) == pytest.approx(0.2666666666666671)


def test_far_from_the_target_the_rate_is_left_alone():
    assert after(cruise(), [0.9] * 60).scale(LATER) == 1


def test_one_loss_below_the_target_lowers_the_rate_to_the_floor():
    assert after(cruise(), [*[0.9] * 60, 0.4]).scale(LATER) == 0.01


def test_it_waits_for_its_own_warm_up():
    assert [after(cruise(), [0.5] * count).scale(LATER) for count in (0, 49, 50)] == [1, 1, 0.01]


def test_it_waits_for_the_warm_up_of_the_run():
    assert after(cruise(), [0.5] * 80).scale(WARMING) == 1


def test_skipped_steps_count_as_steps():
    controller = cruise()
    controller.observe(0.5, 49)
    assert controller.scale(LATER) == 0.01


def test_it_tells_the_factor_that_was_used_and_the_average():
    controller = after(cruise(), [0.55] * 60)
    used = controller.scale(LATER)
    controller.observe(0.4, 60)
    told = controller.report()
    assert told == {"target_loss_scale": used, "target_loss_ema": pytest.approx(0.98 * 0.55 + 0.02 * 0.4)}


def test_before_the_first_loss_there_is_nothing_to_tell():
    assert cruise().report() == {}


def test_it_tells_by_names_that_progress_files_use():
    assert tuple(after(cruise(), [1.0]).report()) == NAMES


def test_a_resumed_run_goes_on_where_it_was():
    losses = [0.6 - 0.001 * step for step in range(120)]
    straight = after(cruise(), losses)
    resumed = cruise()
    resumed.load_state_dict(json.loads(json.dumps(after(cruise(), losses[:70]).state_dict())))
    for step in range(70, 120):
        resumed.observe(losses[step], step)
    assert resumed.scale(LATER) == straight.scale(LATER)
    assert resumed.report() == straight.report()


def test_the_state_before_the_first_loss_can_be_restored():
    controller = cruise()
    controller.load_state_dict(json.loads(json.dumps(cruise().state_dict())))
    assert controller.scale(LATER) == 1


def test_a_resumed_run_may_aim_elsewhere():
    controller = cruise(target_loss=0.3)
    controller.load_state_dict(after(cruise(), [0.5] * 60).state_dict())
    assert controller.scale(LATER) == 1


def test_a_target_of_zero_leaves_the_rate_alone():
    controller = after(cruise(target_loss=0.0), [0.0] * 100)
    assert (controller.scale(LATER), controller.report()) == (1, {})


def test_without_a_target_it_is_refused():
    with pytest.raises(ConfigError, match="give --target-loss"):
        Cruise(CruiseConfig(), BuildContext())
