"""Which songs a run measures, and under which noise: a function of the place in the run alone, without state. Light.

All runs share crops, timesteps and noise, place by place, so that they differ by nothing but their songs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist

from sidestep_core.model.dims import ModelDims
from sidestep_core.training.order import GOLDEN_RATIO, BatchPlan, Crop
from sidestep_core.training.seeds import seed_of, uniform
from sidestep_core.training.sets import TrainSong

SONG_SEED = 1729
NOISE_SEED = 0
FEW_SONGS = 10
FEWEST, MOST = 8, 50  # places of a run, unless they are given


def count_runs(given: int | None, songs: int) -> int:
    """Return how many runs there are; with one song, all would be the same."""
    return given or min(songs, 2 if songs <= FEW_SONGS else 3)


def count_batches(given: int | None, songs: int) -> int:
    """Return how many places a run has: one for each song, but enough for different noise levels, and not too many."""
    return min(given, songs) if given else min(max(songs, FEWEST), MOST)


def songs_of_run(run: int, songs: int, batches: int) -> list[int]:
    """Return the songs of a run, by index; none comes twice before all came once. Runs count from 0."""
    order = list(range(songs))
    random.Random(SONG_SEED + run).shuffle(order)
    return [order[place % songs] for place in range(batches)]


def timestep(place: int, focus: str, limits: tuple[float, float], dims: ModelDims) -> float:
    """Return the timestep of a place: however many places there are, their timesteps fill the distribution evenly.

    Args:
        place: from 0.
        focus: "balanced" for the distribution that training draws from; everything else is uniform.
        limits: smallest and largest timestep.
        dims: of the model, for mu and sigma of that distribution.
    """
    share = (0.5 + place * GOLDEN_RATIO) % 1.0
    low, high = limits
    if focus != "balanced":
        return low + (high - low) * share
    # training takes the larger of two logit-normal draws: this is the quantile of that
    normal = dims.timestep_mu + dims.timestep_sigma * NormalDist().inv_cdf(math.sqrt(share))
    return 1 / (1 + math.exp(-normal))


def noise_seed(place: int) -> tuple[int | str, ...]:
    """Return what seeds the noise of a place."""
    return NOISE_SEED, "analysis", place


def plan_of(place: int, index: int, songs: Sequence[TrainSong], window: int | None) -> BatchPlan:
    """Return the batch that measures a song at a place of a run: one window, or all of the song."""
    frames = songs[index].frames
    length = min(frames, window or frames)
    start = int(uniform(NOISE_SEED, "crop", place) * (frames - length + 1))
    crop = Crop(song=index, start=start, length=length, draw=seed_of(NOISE_SEED, "visit", place))
    return BatchPlan(step=place, micro=0, crops=(crop,), step_frames=length)
