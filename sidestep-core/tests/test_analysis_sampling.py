"""Which songs and which noise a run sees, and when it knows enough."""

import math
import random
import statistics

import pytest
import torch
from sidestep_core.analysis.certainty import TOLERANCE, Certainty, Patience
from sidestep_core.analysis.config import FOCUSES, read_focus
from sidestep_core.analysis.sampling import count_batches, count_runs, plan_of, songs_of_run, timestep
from sidestep_core.builtins.configs import ContinuousConfig
from sidestep_core.builtins.timesteps import Continuous
from sidestep_core.model.dims import ModelDims
from sidestep_core.model.tiny import tiny_config
from sidestep_core.specs import BuildContext
from sidestep_core.store.index import StoredSong, TensorStore
from sidestep_core.training.sets import TrainSong

DIMS = ModelDims.from_config(tiny_config("base"), "tiny")


def song(frames):
    return TrainSong(
        name="one", store=TensorStore(path="."), stored=StoredSong(name="one", frames=frames, rows=3, seconds=1.0)
    )


@pytest.mark.parametrize(("run", "songs"), [(0, [4, 2, 3, 8, 9, 5]), (1, [1, 8, 7, 6, 0, 9]), (2, [4, 3, 2, 8, 6, 5])])
def test_the_songs_of_a_run_are_those_that_side_step_measures(run, songs):
    assert songs_of_run(run, 10, 6) == songs


def test_a_run_measures_no_song_twice_before_all_were_measured_once():
    assert sorted(songs_of_run(5, 40, 40)) == list(range(40))
    few = songs_of_run(5, 3, 8)
    assert sorted(few[:3]) == sorted(few[3:6]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("songs", "runs", "batches"), [(1, 1, 8), (2, 2, 8), (10, 2, 10), (11, 3, 11), (10_000, 3, 50)]
)
def test_runs_and_songs_suit_the_size_of_the_set(songs, runs, batches):
    assert (count_runs(None, songs), count_batches(None, songs)) == (runs, batches)


def test_runs_and_songs_can_be_given_but_there_are_never_more_songs_than_there_are():
    assert (count_runs(7, 3), count_batches(80, 100), count_batches(80, 60)) == (7, 80, 60)


@pytest.mark.parametrize("count", [8, 50, 400])
@pytest.mark.parametrize("focus", ["texture", "structure", "0.25,0.5"])
def test_timesteps_of_a_range_fill_it_evenly_however_many_there_are(focus, count):
    low, high = read_focus(focus)
    drawn = sorted(timestep(place, focus, (low, high), DIMS) for place in range(count))
    ideal = [low + (high - low) * (i + 0.5) / count for i in range(count)]
    assert max(abs(a - b) for a, b in zip(drawn, ideal, strict=True)) < 2 * (high - low) / count


def test_balanced_timesteps_have_the_distribution_that_training_draws_from():
    ours = sorted(timestep(place, "balanced", FOCUSES["balanced"], DIMS) for place in range(2000))
    sampler = Continuous(ContinuousConfig(), BuildContext(model=DIMS))
    theirs = sampler.sample(200_000, generator=torch.Generator().manual_seed(0)).sort().values
    for share in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98):
        assert ours[int(share * 2000)] == pytest.approx(theirs[int(share * 200_000)].item(), abs=0.006)


def test_every_place_has_a_timestep_of_its_own():
    assert len({timestep(place, "balanced", (0, 1), DIMS) for place in range(500)}) == 500


def test_a_song_is_measured_whole_unless_a_window_is_given():
    crop = plan_of(3, 0, [song(200)], None).crops[0]
    assert (crop.start, crop.length, crop.dropped) == (0, 200, False)


def test_windows_lie_inside_their_songs_and_move_with_the_place():
    crops = [plan_of(place, 0, [song(200)], 50).crops[0] for place in range(60)]
    assert {crop.length for crop in crops} == {50}
    assert min(crop.start for crop in crops) >= 0 <= 150 >= max(crop.start for crop in crops)
    assert len({crop.start for crop in crops}) > 30


def test_a_song_shorter_than_the_window_is_measured_whole():
    assert plan_of(0, 0, [song(30)], 50).crops[0].length == 30


def scores_of(songs, modules, spread, seed=0):
    """Return scores whose size varies much from song to song, and a projection's share of them as given."""
    draw = random.Random(seed)
    shares = [draw.lognormvariate(0, 1) for _ in range(modules)]
    return [
        [size * share * draw.lognormvariate(0, spread) for share in shares]
        for size in (draw.lognormvariate(-12, 1) for _ in range(songs))
    ]


def test_the_error_is_that_of_a_ratio_of_means():
    rows = scores_of(20, 7, 0.5)
    certainty = Certainty(7)
    for row in rows:
        certainty.add(row)
    means = [statistics.fmean(row) for row in rows]
    errors = []
    for column in zip(*rows, strict=True):
        ratio = sum(column) / sum(means)
        residuals = [score - ratio * mean for score, mean in zip(column, means, strict=True)]
        variance = math.fsum(r * r for r in residuals) / 19
        errors.append(math.sqrt(variance / 20) / statistics.fmean(column))
    assert certainty.error == pytest.approx(statistics.median(errors), rel=1e-9)


def test_songs_that_differ_in_loudness_alone_leave_no_doubt():
    certainty = Certainty(3)
    for size in (1e-9, 3e-6, 2e-3):
        certainty.add([size, 2 * size, 5 * size])
    assert certainty.error == pytest.approx(0, abs=1e-6)


def test_one_song_tells_nothing_of_the_error():
    certainty = Certainty(2)
    certainty.add([1.0, 2.0])
    assert certainty.error == math.inf


def test_projections_without_a_gradient_have_no_part_in_the_error():
    rows = scores_of(10, 4, 0.5)
    with_zeros, without = Certainty(12), Certainty(4)
    for row in rows:
        without.add([score / 3 for score in row])  # the mean of all is a third as large
        with_zeros.add([*row, *[0.0] * 8])
    assert with_zeros.error == pytest.approx(without.error)


def test_the_error_falls_with_the_root_of_the_number_of_songs():
    errors = []
    for songs in (100, 400):
        certainty = Certainty(30)
        for row in scores_of(songs, 30, 0.4):
            certainty.add(row)
        errors.append(certainty.error)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.25)


def ended_after(rows, patience):
    follower = Patience(len(rows[0]), patience)
    return next((i + 1 for i, row in enumerate(rows) if follower.add(row)), None)


def test_a_run_whose_songs_agree_ends_as_soon_as_patience_allows():
    assert ended_after([[1.0, 2.0, 3.0]] * 50, patience=5) == 6  # the first song alone tells nothing


def test_more_patience_takes_as_many_songs_more():
    rows = scores_of(200, 20, 0.3)
    assert ended_after(rows, 9) - ended_after(rows, 4) == 5


def test_a_run_whose_songs_disagree_does_not_end():
    assert ended_after(scores_of(50, 20, 2.0), patience=1) is None


def test_patience_begins_anew_when_a_song_unsettles_the_ranking():
    calm, odd = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    rows = [calm] * 5 + [odd] + [calm] * 200
    follower = Patience(3, 5)
    ended = next(i + 1 for i, row in enumerate(rows) if follower.add(row))
    assert ended > 11
    assert follower.certainty.error <= TOLERANCE
