"""Learning rates: known values, and a rate that is a function of the step alone."""

import pytest
from sidestep_core.builtins.configs import CosineConfig
from sidestep_core.builtins.schedules import Constant, Cosine
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import LRControllerContract
from sidestep_core.training.schedule import Schedule

PEAK = 3e-4
COSINE = {
    0: 2.9999999999999997e-05,
    1: 4.3499999999999993e-05,
    5: 9.749999999999998e-05,
    10: 0.000165,
    19: 0.0002865,
    20: 0.0003,
    21: 0.00029997738273072406,
    50: 0.00028010477246198895,
    100: 0.00017728675438353909,
    110: 0.0001514999999999999,
    150: 5.6046039961548886e-05,
    199: 3.022617269275896e-06,
    200: 2.9999999999999997e-06,
}
CONSTANT = {0: 2.9999999999999997e-05, 1: 4.3499999999999993e-05, 19: 0.0002865, 20: 0.0003, 110: 0.0003, 200: 0.0003}
COSINE_WITHOUT_WARMUP = {
    0: 0.0003,
    1: 0.00029998167992352655,
    2: 0.0002999267242143111,
    100: 0.00015149999999999994,
    200: 2.9999999999999997e-06,
}


class TestCosine(LRControllerContract):
    plugin, name = "sidestep_core.builtins.plugin", "cosine"


class TestConstant(LRControllerContract):
    plugin, name = "sidestep_core.builtins.plugin", "constant"


class Counting:
    """A controller with state: the factor falls with every loss it was shown."""

    def __init__(self):
        self.seen = []

    def scale(self, progress):
        return 0.5 ** len(self.seen)

    def observe(self, loss, step):
        self.seen.append([loss, step])

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])


def schedule(*controllers, total_steps=200, warmup_steps=20):
    return Schedule(
        {str(index): controller for index, controller in enumerate(controllers)},
        learning_rate=PEAK,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        start_factor=0.1,
        steps_per_epoch=10,
    )


def cosine(ratio=0.01):
    return Cosine(CosineConfig(cosine_eta_min_ratio=ratio), BuildContext())


def constant():
    return Constant(None, BuildContext())


@pytest.mark.parametrize(("step", "rate"), COSINE.items())
def test_cosine_after_a_warm_up(step, rate):
    assert PEAK * schedule(cosine()).factor(step) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(("step", "rate"), CONSTANT.items())
def test_constant_after_a_warm_up(step, rate):
    assert PEAK * schedule(constant()).factor(step) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("step", "rate"), COSINE_WITHOUT_WARMUP.items())
def test_cosine_without_a_warm_up(step, rate):
    assert PEAK * schedule(cosine(), warmup_steps=0).factor(step) == pytest.approx(rate, rel=1e-9)


def test_cosine_stays_at_its_end():
    assert schedule(cosine()).factor(10_000) == pytest.approx(0.01)


def test_factors_of_controllers_multiply():
    both = schedule(cosine(), cosine(0.5)).factor(110)
    assert both == pytest.approx(schedule(cosine()).factor(110) * schedule(cosine(0.5)).factor(110))


def test_every_group_has_its_own_peak():
    groups = [{"lr": 9.0}, {"lr": 9.0}]
    schedule(constant()).apply(groups, [1.0, 16.0], 20)
    assert [group["lr"] for group in groups] == [1.0, 16.0]


def test_the_rate_does_not_depend_on_what_a_group_held_before():
    groups = [{"lr": 1e-9}]
    assert schedule(constant()).apply(groups, [PEAK], 20) == groups[0]["lr"] == PEAK


def test_controllers_that_follow_the_loss_are_shown_it():
    counting = Counting()
    schedule(constant(), counting).observe(0.25, 7)
    assert counting.seen == [[0.25, 7]]


def test_state_of_controllers_survives():
    before, after = schedule(constant(), Counting()), schedule(constant(), Counting())
    before.observe(0.25, 7)
    after.load_state_dict(before.state_dict())
    assert after.factor(30) == before.factor(30) == 0.5


def test_a_controller_that_was_not_there_keeps_its_own_state():
    fresh = schedule(Counting())
    fresh.load_state_dict({})
    assert fresh.factor(30) == 1.0
