"""What a training run will do, worked out before anything heavy is loaded: the base of `--dry-run` and of the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.configs import DataConfig, RunConfig, TrainConfig
from sidestep_core.errors import ConfigError, DatasetError, ResumeError
from sidestep_core.memory import DROPOUT_BYTES, MemoryEstimate, estimate_memory
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import ModelFolder, identity
from sidestep_core.requests import Chosen, Components, TrainRequest
from sidestep_core.runs import FINAL, PROGRESS, checkpoints, read_record
from sidestep_core.store.index import StoredSong, TensorStore
from sidestep_core.targets import Target, choose_targets

FRAMES_PER_SECOND = 25


@attrs.frozen(kw_only=True)
class TrainPlan:
    """A run worked out.

    Attributes:
        request: what was asked for.
        components: the parts that were found.
        model: the model folder.
        identity: hash that tells it from other models.
        store: the tensors, with the length of every song.
        targets: projections that get an adapter.
        trainable: parameters that are trained (None if the adapter type cannot tell before it is built).
        window: longest crop in frames, None for whole songs.
        visits: songs or crops in one epoch.
        steps_per_epoch: optimizer steps of one epoch.
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps until the peak rate.
        checkpointed_layers: layers to recompute, None to use as few as memory forces.
        run: the run folder.
        name: name of the run.
        resume: checkpoint to go on from.
        notices: what the user should know before starting.
    """

    request: TrainRequest
    components: Components
    model: ModelFolder
    identity: str
    store: TensorStore
    targets: tuple[Target, ...]
    trainable: int | None
    window: int | None
    visits: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    checkpointed_layers: int | None
    run: Path
    name: str
    resume: Path | None = None
    notices: tuple[str, ...] = ()

    @property
    def memory(self) -> MemoryEstimate:
        """What the run will take, on the device and in the precision that can be told without looking."""
        model = self.request.model
        precision = "fp32" if model.device == "cpu" else "bf16"
        return memory_on(self, model.device, precision if model.precision == "auto" else model.precision)


def make_plan(request: TrainRequest, components: Components, model: ModelFolder, store: TensorStore) -> TrainPlan:
    """Work out a run.

    Raises:
        ConfigError: there is no output folder, or it holds another run.
        DatasetError: there is nothing to train on.
        AdapterError: the settings select no projection.
        ResumeError: there is no checkpoint to go on from.
    """
    run = _run_folder(request.run)
    resume = find_checkpoint(run, request.run.resume_from)
    _refuse_other_run(run, resume)
    store = _measured(store)
    window = crop_frames(request.data)
    visits = sum(song.repeat for song in store.songs) * request.data.dataset_repeats
    if not visits:
        raise DatasetError(f"'{store.path}' holds no song to train on; see 'sidestep tensors info {store.path}'")
    targets = choose_targets(projection_shapes(model.dims), request.targets)
    trainable = count_parameters(components, targets)
    steps_per_epoch = math.ceil(math.ceil(visits / request.train.batch_size) / request.train.accumulation)
    total = request.train.epochs * steps_per_epoch
    total = min(total, request.train.max_steps or total)
    layers = checkpointed_layers(request.train, model.dims.num_layers)
    model_identity = identity(model)
    return TrainPlan(
        request=request,
        components=components,
        model=model,
        identity=model_identity,
        store=store,
        targets=targets,
        trainable=trainable,
        window=window,
        visits=visits,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=min(request.train.warmup_steps, max(1, total // 10)),
        checkpointed_layers=layers,
        run=run,
        name=_run_name(request, components, run),
        resume=resume,
        notices=tuple(_notices(model, model_identity, store)),
    )


def memory_on(plan: TrainPlan, device: str, precision: str) -> MemoryEstimate:
    """Return what the run takes on a device in a precision; a plan's own estimate has to guess them."""
    songs, parts = songs_of(plan.store), plan.components
    dropout = getattr(config_of(parts.adapter), "dropout", 0) > 0
    return estimate_memory(
        plan.model.dims,
        plan.targets,
        trainable=plan.trainable or 0,
        batch=plan.request.train.batch_size,
        frames=max(min(song.frames, plan.window or song.frames) for song in songs),
        rows=max(song.rows for song in songs),
        precision=precision,
        optimizer_bytes=parts.optimizer.spec.bytes_per_parameter,
        dropout_bytes=DROPOUT_BYTES["cpu" if device == "cpu" else "gpu"] * dropout,
    )


def crop_frames(data: DataConfig) -> int | None:
    """Return the longest crop in latent frames, None when whole songs are used."""
    if data.max_latent_length is not None:
        return data.max_latent_length
    return None if data.chunk_duration is None else round(data.chunk_duration * FRAMES_PER_SECOND)


def count_parameters(components: Components, targets: tuple[Target, ...]) -> int | None:
    """Return how many parameters an adapter on the targets trains, None if its type does not say."""
    chosen = components.adapter
    if chosen.spec.count is None:
        return None
    config = config_of(chosen)
    return sum(chosen.spec.count(config, t.out_features, t.in_features, t.rank) for t in targets)


def config_of(chosen: Chosen[Any]) -> Any:
    """Return a component's settings, the defaults where none were given; None if it has none."""
    if chosen.config is None and chosen.spec.config is not None:
        return chosen.spec.config()
    return chosen.config


def checkpointed_layers(train: TrainConfig, layers: int) -> int | None:
    """Return how many layers the settings say to recompute, None when memory is to decide."""
    if train.gradient_checkpointing is False:
        return 0
    if train.gradient_checkpointing_ratio is not None:
        return round(layers * train.gradient_checkpointing_ratio)
    return layers if train.gradient_checkpointing else None


def find_checkpoint(run: Path, resume_from: str | None) -> Path | None:
    """Return the checkpoint folder that `--resume-from` names.

    Raises:
        ResumeError: it is not there or not complete.
    """
    if resume_from is None:
        return None
    found = checkpoints(run)
    if resume_from == "latest":
        if not found:
            raise ResumeError(f"no complete checkpoint in '{run}'; leave out --resume-from to start anew")
        return found[-1][1]
    path = Path(resume_from)
    if path not in (complete := [p for _, p in checkpoints(path.parent.parent)]):
        there = ", ".join(p.name for p in complete) or "none"
        raise ResumeError(f"'{path}' is no complete checkpoint; beside it there is {there}")
    return path


def _run_folder(config: RunConfig) -> Path:
    if config.output_dir is None:
        raise ConfigError("no folder for the run: give --output-dir")
    run = config.output_dir
    nearest = next(path for path in (run, *run.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--output-dir '{run}' cannot be made: '{nearest}' is a file")
    return run


def _refuse_other_run(run: Path, resume: Path | None) -> None:
    record = read_record(run)
    holds = record is not None or any((run / name).exists() for name in (PROGRESS, FINAL))
    if not holds or (resume is not None and resume.resolve().is_relative_to(run.resolve())):
        return
    what = f"run {record.get('name', '')!r} ({record.get('status', 'unfinished')})" if record else "a run"
    raise ConfigError(
        f"--output-dir '{run}' already holds {what}; "
        "choose another folder, or go on with that run with --resume-from latest"
    )


def _run_name(request: TrainRequest, components: Components, run: Path) -> str:
    if request.run.run_name:
        return request.run.run_name
    if record := read_record(run):
        return str(record["name"])
    return f"{time.strftime('%Y%m%d-%H%M%S')}_{components.adapter.spec.name}"


def _measured(store: TensorStore) -> TensorStore:
    if store.kind != "pt":
        return store
    from sidestep_core.store.legacy import measure

    return measure(store)


def _notices(model: ModelFolder, model_identity: str, store: TensorStore) -> Iterator[str]:
    if store.model and store.model != model_identity:
        yield (
            f"the tensors in '{store.path}' were made with another model than {model.name!r}; "
            "run 'sidestep preprocess' with this one for conditioning that fits"
        )
    silent = [song.name for song in store.songs if not song.repeat]
    if silent:
        yield f"{len(silent)} songs have repeat 0 and are not trained on, the first {silent[0]!r}"


def songs_of(store: TensorStore) -> tuple[StoredSong, ...]:
    """Return the songs that are trained on: those with at least one visit in an epoch."""
    return tuple(song for song in store.songs if song.repeat)
