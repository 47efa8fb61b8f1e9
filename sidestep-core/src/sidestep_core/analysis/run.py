"""The analysis, top to bottom in the order things happen. It yields events, writes no map and never prints."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from statistics import fmean, stdev

from sidestep_core.analysis.config import read_focus
from sidestep_core.analysis.fitting import Fitted, fit_ranks
from sidestep_core.analysis.measuring import Measured, measure_runs
from sidestep_core.analysis.rank_map import dataset_hash
from sidestep_core.analysis.result import Analysis, Module
from sidestep_core.analysis.sampling import count_batches
from sidestep_core.analysis.spectrum import cache_file, effective_ranks, read_cache, write_cache
from sidestep_core.analysis.work import Work
from sidestep_core.configs import DataConfig
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.events import AnalysisFinished, Event, Notice, StageStarted, WeightMeasured
from sidestep_core.model.dims import projection_shapes
from sidestep_core.training.sets import songs_of

FEW_SONGS = 5
SPECTRUM = "spectrum"


def analyze(work: Work) -> Iterator[Event]:
    """Find out which projections matter for the songs and what ranks they should get.

    Yields:
        Notices, progress, and `AnalysisFinished`. Nothing is written but the cache of effective ranks.

    Raises:
        Cancelled: it was asked to stop.
        SidestepError: model or tensors cannot be used, or no ranks fit.
    """
    songs = songs_of(work.stores, DataConfig(dataset_dir=work.config.dataset_dir))
    if not songs:
        raise DatasetError(f"'{work.stores[0].path}' holds no song to analyze")
    known_as = dataset_hash(work.stores)
    yield from (Notice(message=line, warning=True) for line in _warnings(work, len(songs)))
    measured = yield from measure_runs(work, songs)
    names = projection_shapes(work.model.dims)
    scores = {name: fmean(column) for name, column in zip(names, zip(*measured.scores, strict=True), strict=True)}
    if not any(scores.values()):
        raise ConfigError(f"no projection of {work.model.name!r} has a gradient: its output does not depend on them")
    effective = yield from _effective_ranks(work)
    fitted = fit_ranks(work.config, work.adapter, work.model.dims, scores, effective)
    yield AnalysisFinished(analysis=_analysis(work, known_as, len(songs), measured, effective, fitted))


def _warnings(work: Work, songs: int) -> Iterator[str]:
    if songs < FEW_SONGS:
        count = f"{songs} song says" if songs == 1 else f"{songs} songs say"
        yield f"{count} little about a style; the ranks may suit no others"
    for store in work.stores:
        if store.model and store.model != work.identity:
            yield (
                f"the tensors in '{store.path}' were made with another model than {work.model.name!r}; "
                "run 'sidestep preprocess' with this one for conditioning that fits"
            )


def _effective_ranks(work: Work) -> Generator[Event, None, Mapping[str, int]]:
    """Return the effective rank of every projection: those kept from before, or made now and kept."""
    file = cache_file(work.cache, work.identity)
    kept = read_cache(file, work.model)
    if kept is not None:
        return kept
    yield StageStarted(stage=SPECTRUM, total=len(projection_shapes(work.model.dims)))
    # only CUDA has all that is needed: float64 and its eigenvalues
    device = work.device if work.device.startswith("cuda") else "cpu"
    found = {}
    for name, rank in effective_ranks(work.model, device):
        work.stop_if_cancelled()
        found[name] = rank
        yield WeightMeasured(stage=SPECTRUM, name=name, effective_rank=rank)
    try:
        write_cache(file, found)
    except OSError as error:
        yield Notice(message=f"effective ranks are not kept for next time: '{file}': {error.strerror}")
    return found


def _analysis(
    work: Work, known_as: str, songs: int, measured: Measured, effective: Mapping[str, int], fitted: Fitted
) -> Analysis:
    config, model = work.config, work.model
    modules = [
        Module(
            name=name,
            score=fmean(column),
            deviation=stdev(column) if len(column) > 1 else 0.0,
            effective_rank=effective[name],
            rank=fitted.ranks.get(name, 0),
        )
        for name, column in zip(projection_shapes(model.dims), zip(*measured.scores, strict=True), strict=True)
    ]
    return Analysis(
        model=model.name,
        variant=model.variant,
        identity=work.identity,
        layers=model.dims.num_layers,
        timestep_mu=model.dims.timestep_mu,
        timestep_sigma=model.dims.timestep_sigma,
        dataset_hash=known_as,
        focus=config.timestep_focus,
        limits=read_focus(config.timestep_focus),
        songs=songs,
        batches=count_batches(config.batches, songs),
        runs=measured.runs,
        base=fitted.base,
        rank_min=config.rank_min,
        rank_max=config.rank_max,
        budget=config.budget,
        adapter_type=work.adapter.name,
        trainable=fitted.trainable,
        error=measured.error,
        modules=tuple(modules),
    )
