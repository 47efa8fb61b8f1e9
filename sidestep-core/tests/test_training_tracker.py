"""Means of the loss."""

import json
import math

import pytest
from sidestep_core.training.tracker import LossTracker, Mean


def tracker(*losses):
    made = LossTracker()
    for loss in losses:
        made.add(loss, loss)
    return made


def test_a_mean_begins_anew_when_it_is_taken():
    mean = Mean()
    mean.add(1.0)
    mean.add(3.0)
    assert mean.take() == 2.0
    assert math.isnan(mean.take())


def test_the_smoothed_loss_starts_at_the_first_one():
    assert tracker(2.0).smoothed == pytest.approx(2.0)


def test_the_smoothed_loss_weighs_the_last_step_by_a_fiftieth():
    weights = [0.02 * 0.98, 0.02]
    assert tracker(1.0, 4.0).smoothed == pytest.approx((weights[0] * 1 + weights[1] * 4) / sum(weights))


def test_there_is_no_smoothed_loss_before_the_first_step():
    assert math.isnan(tracker().smoothed)


def test_a_good_step_ends_a_row_of_bad_ones():
    made = tracker(1.0)
    made.bad_steps = 4
    made.add(1.0, 1.0)
    assert made.bad_steps == 0


def test_it_goes_on_from_its_state_to_the_bit():
    before = tracker(0.1, 0.7, 0.3)
    after = LossTracker.from_state(json.loads(json.dumps(before.state_dict())))
    assert after == before
    before.add(0.9, 0.8)
    after.add(0.9, 0.8)
    assert after == before
