"""Learning-rate schedules: rates that Side-Step users know, and the contract of every one."""

import pytest
from sidestep_core.builtins.configs import CosineConfig, CosineRestartsConfig, CustomConfig
from sidestep_core.builtins.schedules import Constant, Cosine, CosineRestarts, Linear
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import LRControllerContract
from sidestep_core.training.schedule import Schedule

CORE = "sidestep_core.builtins.plugin"
BASE, TOTAL, WARMUP = 3e-4, 200, 20
# rate after so many steps, with a warm-up of 20 from a tenth of the peak
WARMING = {0: 2.9999999999999997e-05, 1: 4.3499999999999993e-05, 5: 9.749999999999998e-05, 10: 0.000165, 19: 0.0002865}
COSINE = {
    **WARMING,
    20: 0.0003,
    21: 0.00029997738273072406,
    50: 0.00028010477246198895,
    100: 0.00017728675438353909,
    110: 0.0001514999999999999,
    150: 5.6046039961548886e-05,
    199: 3.022617269275896e-06,
    200: 2.9999999999999997e-06,
}
RESTARTS = {
    **WARMING,
    20: 0.0003,
    21: 0.0002996382614635839,
    50: 7.725000000000002e-05,
    100: 3.7742400196831774e-05,
    110: 0.0003,
    150: 1.1955645813292614e-05,
    199: 3.361738536416106e-06,
    200: 0.0003,
}
LINEAR = {
    **WARMING,
    20: 0.0003,
    21: 0.00029835,
    50: 0.0002504999999999997,
    100: 0.00016799999999999988,
    110: 0.00015149999999999986,
    150: 8.549999999999988e-05,
    199: 4.649999999999996e-06,
    200: 2.999999999999993e-06,
}
CONSTANT = {**WARMING, 20: 0.0003, 21: 0.0003, 110: 0.0003, 199: 0.0003, 200: 0.0003}
COSINE_AT_ONCE = {
    0: 0.0003,
    1: 0.00029998167992352655,
    2: 0.0002999267242143111,
    100: 0.00015149999999999994,
    200: 2.9999999999999997e-06,
}


class TestCosine(LRControllerContract):
    plugin, name = CORE, "cosine"


class TestCosineRestarts(LRControllerContract):
    plugin, name = CORE, "cosine_restarts"


class TestLinear(LRControllerContract):
    plugin, name = CORE, "linear"


class TestConstant(LRControllerContract):
    plugin, name = CORE, "constant"


class TestConstantWithWarmup(LRControllerContract):
    plugin, name = CORE, "constant_with_warmup"


class TestCustom(LRControllerContract):
    plugin, name = CORE, "custom"
    config = CustomConfig(scheduler_formula="step_decay")


def rates(controller, steps, warmup=WARMUP):
    schedule = Schedule(
        {"it": controller},
        learning_rate=BASE,
        total_steps=TOTAL,
        warmup_steps=warmup,
        start_factor=0.1,
        steps_per_epoch=10,
    )
    return {step: BASE * schedule.factor(step) for step in steps}


def restarts(count=4):
    return CosineRestarts(CosineRestartsConfig(cosine_restarts_count=count), BuildContext())


def at(controller, step, total):
    return controller.scale(Progress(step=step, total_steps=total, steps_per_epoch=10, learning_rate=BASE))


@pytest.mark.parametrize(
    ("controller", "wanted"),
    [
        (Cosine(CosineConfig(), BuildContext()), COSINE),
        (restarts(), RESTARTS),
        (Linear(None, BuildContext()), LINEAR),
        (Constant(None, BuildContext()), CONSTANT),
    ],
    ids=["cosine", "cosine_restarts", "linear", "constant"],
)
def test_the_rates_are_those_known(controller, wanted):
    assert rates(controller, wanted) == pytest.approx(wanted, rel=1e-12)


def test_without_a_warm_up_cosine_starts_at_the_peak():
    cosine = Cosine(CosineConfig(), BuildContext())
    assert rates(cosine, COSINE_AT_ONCE, warmup=0) == pytest.approx(COSINE_AT_ONCE, rel=1e-12)


@pytest.mark.parametrize("total", [180, 181, 183, 7])
def test_restarts_never_end_a_run_at_the_peak(total):
    assert at(restarts(), total - 1, total) < 0.7


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_peak_is_reached_as_often_as_asked(count):
    peaks = [step for step in range(100) if at(restarts(count), step, 100) == 1]
    assert len(peaks) == count


def test_more_restarts_than_steps_stay_at_the_peak():
    assert {at(restarts(10), step, 4) for step in range(4)} == {1.0}


@pytest.mark.parametrize("schedule", [Cosine(CosineConfig(), BuildContext()), Linear(None, BuildContext())])
def test_past_the_end_the_rate_stays_low(schedule):
    assert at(schedule, 300, 100) == pytest.approx(0.01)


def test_one_restart_is_the_cosine():
    cosine = Cosine(CosineConfig(), BuildContext())
    assert [at(restarts(1), step, 50) for step in range(50)] == [at(cosine, step, 50) for step in range(50)]
