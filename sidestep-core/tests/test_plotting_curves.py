"""What there is to draw of a run, from its progress lines."""

import json
import math

import pytest
from sidestep_core.plotting.curves import COLUMNS, EMPTY, POINTS, read_curves, thin


def step(at, loss=0.5, **more):
    return {"kind": "step", "step": at, "epoch": 1, "loss": loss, "lr": 1e-4, "smoothed": loss, **more}


@pytest.fixture
def curves(tmp_path):
    def read(*lines, name="progress.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return read_curves(tmp_path, "run")

    return read


def test_each_series_has_its_steps_and_values(curves):
    found = curves(
        step(10, 0.5, smoothed=0.75, lr=1e-4, target_loss_scale=1.0),
        step(20, 0.25, smoothed=0.5, lr=2e-4, target_loss_scale=0.5),
        {"kind": "validation", "step": 20, "epoch": 1, "loss": 0.625},
    )
    assert found.loss == ((10, 20), (0.5, 0.25))
    assert found.smoothed == ((10, 20), (0.75, 0.5))
    assert found.rate == ((10, 20), (1e-4, 2e-4))
    assert found.scale == ((10, 20), (1.0, 0.5))
    assert found.validation == ((20,), (0.625,))


def test_what_was_not_reported_is_empty(curves):
    found = curves(step(10))
    assert (found.scale, found.validation, found.bands, found.profile, found.samples) == (EMPTY, EMPTY, None, (), ())


def test_losses_that_are_no_numbers_are_left_out(curves):
    assert curves(step(10, None), step(20, 0.5)).loss == ((20,), (0.5,))


def test_a_run_that_reported_nothing_has_nothing_to_draw(tmp_path):
    assert read_curves(tmp_path, "run").loss == EMPTY


def test_losses_by_timestep_are_weighted_by_their_samples(curves):
    lines = [step(n, bands=[0.5, None], samples=[6, 0]) for n in range(1, 4)]
    found = curves(*lines, step(4, bands=[1.0, 2.0], samples=[2, 4]))
    assert found.bands.edges == (0, 1, 2, 3, 4)
    assert found.bands.losses[-1] == (1.0, 2.0)
    assert math.isnan(found.bands.losses[0][1])
    assert found.samples == (20, 4)


def test_the_profile_is_that_of_the_last_quarter(curves):
    lines = [step(n, bands=[9.0], samples=[1]) for n in range(1, 7)]
    found = curves(*lines, step(7, bands=[1.0], samples=[1]), step(8, bands=[4.0], samples=[2]))
    assert found.profile == (3.0,)


def test_many_reports_share_the_columns_of_the_map(curves):
    lines = [step(n, bands=[1.0 if n % 2 else 2.0], samples=[1 if n % 2 else 3]) for n in range(1, 4 * COLUMNS + 1)]
    found = curves(*lines).bands
    assert len(found.losses) == COLUMNS == len(found.edges) - 1
    assert found.edges[-1] == 4 * COLUMNS
    assert found.losses[0] == (pytest.approx(1.75),)


def test_few_samples_make_few_columns(curves):
    lines = [step(n, bands=[0.5, 1.5], samples=[1, 0] if n % 2 else [0, 1]) for n in range(1, 17)]
    found = curves(*lines).bands
    assert found.edges == (0, 4, 8, 12, 16)
    assert found.losses == ((0.5, 1.5),) * 4


@pytest.mark.parametrize(
    ("bands", "samples"), [([0.5], [1, 2]), ([], []), ("x", [1]), (["x"], [1]), ([0.5], ["x"]), ([0.5], None)]
)
def test_bands_that_make_no_sense_are_left_out(curves, bands, samples):
    assert curves(step(1, bands=bands, samples=samples)).bands is None


def test_lines_with_another_number_of_bands_are_left_out(curves):
    found = curves(step(1, bands=[9.0], samples=[5]), step(2, bands=[1.0, 2.0], samples=[1, 1]))
    assert (found.samples, found.profile) == ((1, 1), (1.0, 2.0))


def test_a_long_series_is_thinned_to_means():
    steps = tuple(float(n) for n in range(10 * POINTS))
    thinned = thin((steps, tuple(2 * step for step in steps)))
    assert len(thinned[0]) == POINTS
    assert thinned[0][0] == 4.5
    assert thinned[1][0] == 9.0


def test_a_short_series_stays_as_it_is():
    series = ((1.0, 2.0), (3.0, 4.0))
    assert thin(series) == series


def test_a_side_step_run_gets_the_smoothed_loss_it_does_not_have(curves):
    lines = [{"kind": "step", "step": n, "epoch": 1, "loss": 2.0 if n == 1 else 1.0, "lr": 1e-4} for n in (1, 2, 102)]
    found = curves(*lines, name=".progress.jsonl")
    assert found.smoothed[0] == (1, 2, 102)
    assert found.smoothed[1][0] == pytest.approx(2.0)
    assert found.smoothed[1][1] == pytest.approx((0.98 * 2 + 1) / 1.98)
    # a hundred steps later hardly anything is left of the first
    assert found.smoothed[1][2] == pytest.approx(1.0, abs=0.05)
