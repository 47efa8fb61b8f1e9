"""The runs of an analysis: each measures the projections on songs of its own, until their ranking is settled."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

import attrs

from sidestep_core.analysis.certainty import TOLERANCE, Certainty, Patience
from sidestep_core.analysis.config import read_focus
from sidestep_core.analysis.result import RunSongs
from sidestep_core.analysis.sampling import count_batches, count_runs, plan_of, songs_of_run, timestep
from sidestep_core.analysis.sweep import Sweep, finite
from sidestep_core.analysis.work import Work
from sidestep_core.device import DTYPES, free_memory
from sidestep_core.errors import ConfigError
from sidestep_core.events import Event, Notice, SongFinished, SongRejected, StageStarted
from sidestep_core.memory import SAFE, estimate_memory
from sidestep_core.memory_parts import FLOAT, Adapted, Workload
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.load import load_decoder
from sidestep_core.plan import FRAMES_PER_SECOND
from sidestep_core.specs import Kept
from sidestep_core.store.legacy import measure
from sidestep_core.training.batches import Batches
from sidestep_core.training.sets import TrainSong


@attrs.frozen(kw_only=True)
class Measured:
    """What the runs gave.

    Attributes:
        scores: of each run, the mean squared gradient of every projection.
        runs: the songs of each run.
        error: relative standard error of a projection's share of the gradient, the median of all.
    """

    scores: tuple[tuple[float, ...], ...]
    runs: tuple[RunSongs, ...]
    error: float


@attrs.frozen(kw_only=True)
class _Parts:
    """What every run needs."""

    work: Work
    songs: Sequence[TrainSong]
    window: int | None
    batches: Batches
    sweep: Sweep
    certainty: Certainty


def measure_runs(work: Work, songs: Sequence[TrainSong]) -> Generator[Event, None, Measured]:
    """Measure all projections, in the model's order. The decoder is in memory only here.

    Raises:
        Cancelled: it was asked to stop.
        SidestepError: model or tensors cannot be used.
    """
    batches = count_batches(work.config.batches, len(songs))
    runs = [songs_of_run(run, len(songs), batches) for run in range(count_runs(work.config.runs, len(songs)))]
    songs = _with_lengths(songs, {index for run in runs for index in run})
    seconds = work.config.chunk_duration
    window = None if seconds is None else round(seconds * FRAMES_PER_SECOND)
    work.stop_if_cancelled()
    recomputed = _recomputed(work, [songs[index] for run in runs for index in run], window)
    decoder = load_decoder(work.model, device=work.device, dtype=DTYPES[work.precision])
    decoder.checkpointed_layers = recomputed
    if recomputed:
        layers = work.model.dims.num_layers
        yield Notice(message=f"recomputing {recomputed} of {layers} layers in the backward pass to save memory")
    parts = _make_parts(work, songs, window, decoder)
    scores, covered = [], []
    for number, run in enumerate(runs):
        mean, names = yield from _run(parts, run, f"run {number + 1}/{len(runs)}")
        scores.append(mean)
        covered.append(RunSongs(songs=tuple(dict.fromkeys(names)), batches=len(names)))
    error = parts.certainty.error
    if error > TOLERANCE:
        yield Notice(message=_unsettled(error), warning=True)
    return Measured(scores=tuple(scores), runs=tuple(covered), error=error)


def _make_parts(work: Work, songs: Sequence[TrainSong], window: int | None, decoder: Decoder) -> _Parts:
    names = list(projection_shapes(work.model.dims))
    return _Parts(
        work=work,
        songs=songs,
        window=window,
        # read one at a time: a set may be larger than the memory
        batches=Batches(songs, decoder.null_condition[0].cpu(), in_memory=False),
        sweep=Sweep(decoder, names),
        certainty=Certainty(len(names)),
    )


def _run(
    parts: _Parts, indices: Sequence[int], stage: str
) -> Generator[Event, None, tuple[tuple[float, ...], list[str]]]:
    """Measure the songs of a run; return their mean scores and their names, one for each batch."""
    yield StageStarted(stage=stage, total=len(indices))
    config, dims = parts.work.config, parts.work.model.dims
    patience = Patience(len(projection_shapes(dims)), config.convergence_patience)
    scores, names = list[Sequence[float]](), list[str]()
    for place, index in enumerate(indices):
        parts.work.stop_if_cancelled()
        song, plan = parts.songs[index], plan_of(place, index, parts.songs, parts.window)
        t = timestep(place, config.timestep_focus, read_focus(config.timestep_focus), dims)
        found = parts.sweep.measure(parts.batches[plan], t)
        if not finite(found):
            yield SongRejected(name=song.name, reason="its gradients are not finite")
            continue
        scores.append(found)
        names.append(song.stored.file or song.name)
        parts.certainty.add(found)
        yield SongFinished(stage=stage, name=song.name, audio_seconds=plan.step_frames / FRAMES_PER_SECOND)
        if patience.add(found) and place + 1 < len(indices):
            yield Notice(message=f"{stage}: the ranking is settled after {len(names)} of {len(indices)} batches")
            break
    if not names:
        raise ConfigError("no song had finite gradients; try --precision fp32")
    return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True)), names


def _with_lengths(songs: Sequence[TrainSong], needed: Collection[int]) -> list[TrainSong]:
    """Return the songs; those needed are measured where their folder does not tell how long they are."""
    songs = list(songs)
    for index in needed:
        song = songs[index]
        if not song.frames:
            store = measure(attrs.evolve(song.store, songs=(song.stored,)))
            songs[index] = attrs.evolve(song, stored=store.songs[0])
    return songs


def _recomputed(work: Work, songs: Sequence[TrainSong], window: int | None) -> int:
    """Return how many layers to recompute: as the settings say, or as few as memory forces."""
    dims = work.model.dims
    if work.config.gradient_checkpointing is not None:
        return dims.num_layers if work.config.gradient_checkpointing else 0
    shapes = projection_shapes(dims)
    needed = Workload(
        dims=dims,
        adapted=[_with_gradient(name, in_) for name, (_, in_) in shapes.items()],
        trainable=0,
        batch=1,
        frames=max(min(song.frames, window or song.frames) for song in songs),
        rows=max(song.rows for song in songs),
        precision=work.precision,
        cpu=work.device == "cpu",
    )
    # one gradient and its float32 form are there at a time
    gradient = 2 * FLOAT * max(out * in_ for out, in_ in shapes.values())
    return estimate_memory(needed).layers_to_checkpoint(int(SAFE * free_memory(work.device)) - gradient)


def _with_gradient(name: str, in_features: int) -> Adapted:
    """Return what a weight with a gradient keeps: its input, which projections that read the same share."""
    _, layer, place = name.split(".", 2)
    return Adapted(layer=int(layer), name=place, in_features=in_features, kept=Kept())


def _unsettled(error: float) -> str:
    known = f"to about {error:.0%}" if error < 1 else "to no better than their own size"
    return f"the scores are known {known}, so the ranks may differ with other songs; more --batches or songs tell more"
