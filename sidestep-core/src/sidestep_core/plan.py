"""What a training run will do, worked out before anything heavy is loaded: the base of `--dry-run` and of the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.analysis.rank_map import RankMap, find_rank_map, map_notices
from sidestep_core.configs import DataConfig, KeepConfig, MemoryConfig, RunConfig, TrainConfig
from sidestep_core.errors import ConfigError, DatasetError, ResumeError
from sidestep_core.memory import MemoryEstimate, estimate_memory
from sidestep_core.memory_parts import Adapted, Workload, low_rank
from sidestep_core.model.dims import projection_shapes, spread
from sidestep_core.model.layout import ModelFolder, identity
from sidestep_core.requests import Chosen, Components, TrainRequest
from sidestep_core.runs import FINAL, PROGRESS, checkpoints, read_record, status_of
from sidestep_core.specs import AdapterType
from sidestep_core.store.index import TensorStore
from sidestep_core.targets import Target, choose_targets
from sidestep_core.training.sets import TrainSong, hold_out, previewed_songs, songs_of

FRAMES_PER_SECOND = 25
LEARNING_RATE = 3e-4


@attrs.frozen(kw_only=True)
class TrainPlan:
    """A run worked out.

    Attributes:
        request: what was asked for.
        components: the parts that were found.
        model: the model folder.
        identity: hash that tells it from other models.
        stores: the tensor folders.
        songs: what is trained on, with the length of every song.
        held_out: songs kept for validation.
        previewed: songs whose captions and lyrics previews are made with.
        targets: projections that get an adapter.
        rank_map: which of them, and with what ranks; None without one.
        trainable: parameters that are trained (None if the adapter type cannot tell before it is built).
        learning_rate: peak rate.
        window: longest crop in frames, None for whole songs.
        visits: songs or crops in one epoch.
        steps_per_epoch: optimizer steps of one epoch.
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps until the peak rate.
        checkpointed_layers: layers to recompute, None to use as few as memory forces.
        patience: epochs without a new best after which the run ends, 0 for never.
        run: the run folder.
        name: name of the run.
        resume: checkpoint to go on from.
        notices: what the user should know before starting.
    """

    request: TrainRequest
    components: Components
    model: ModelFolder
    identity: str
    stores: tuple[TensorStore, ...]
    songs: tuple[TrainSong, ...]
    held_out: tuple[TrainSong, ...]
    previewed: tuple[TrainSong, ...]
    targets: tuple[Target, ...]
    rank_map: RankMap | None
    trainable: int | None
    learning_rate: float
    window: int | None
    visits: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    checkpointed_layers: int | None
    patience: int
    run: Path
    name: str
    resume: Path | None = None
    notices: tuple[str, ...] = ()

    @property
    def longest(self) -> tuple[int, int]:
        """Latent frames of the longest sample, and the most rows of conditioning."""
        frames = max(min(song.frames, self.window or song.frames) for song in self.songs)
        return frames, max(song.rows for song in self.songs)

    @property
    def waiting_layers(self) -> frozenset[int]:
        """Layers whose frozen weights wait in main memory."""
        return spread(self.request.memory.block_swap, self.model.dims.num_layers)

    @property
    def memory(self) -> MemoryEstimate:
        """What the run will take, on the device and in the precision that can be told without looking."""
        model = self.request.model
        precision = "fp32" if model.device == "cpu" else "bf16"
        return memory_on(self, model.device, precision if model.precision == "auto" else model.precision)

    @property
    def gradients_every(self) -> int:
        """Steps between reports with the gradient norm of every trained tensor; 0 if no observer wants them."""
        specs = [(chosen.spec, config_of(chosen)) for chosen in self.components.observers]
        wanted = [spec.gradients_every(config) for spec, config in specs if spec.gradients_every is not None]
        shortest = min(filter(None, wanted), default=0)
        log_every = self.request.run.log_every
        # they are part of a report: the next multiple of the steps between reports
        return math.ceil(shortest / log_every) * log_every


def make_plan(
    request: TrainRequest, components: Components, model: ModelFolder, stores: Sequence[TensorStore]
) -> TrainPlan:
    """Work out a run.

    Raises:
        ConfigError: there is no output folder, it holds another run, settings do not fit the number of folders, or a
            song to preview is not there; a rank map is there, but was made for other tensors or another model.
        DatasetError: there is nothing to train on, or the folders cannot be trained on together.
        AdapterError: the settings select no projection.
        ResumeError: there is no checkpoint to go on from.
    """
    if request.train.compile and request.memory.block_swap:
        raise ConfigError("--compile needs the weights where they are; leave out --block-swap or --compile")
    run = _run_folder(request.run)
    resume = find_checkpoint(run, request.run.resume_from)
    _refuse_other_run(run, resume)
    stores = tuple(_measured(store) for store in stores)
    songs, held_out = _songs(stores, request)
    visits = sum(song.visits for song in songs)
    model_identity = identity(model)
    rank_map = find_rank_map(request.targets, model, model_identity, stores)
    targets = choose_targets(
        projection_shapes(model.dims), request.targets, _mapped(rank_map, components.adapter, model)
    )
    trainable = count_parameters(components, targets)
    steps_per_epoch = math.ceil(math.ceil(visits / request.train.batch_size) / request.train.accumulation)
    total = request.train.epochs * steps_per_epoch
    total = min(total, request.train.max_steps or total)
    layers = checkpointed_layers(request.memory, model.dims.num_layers)
    patience = 0 if _holds_its_loss(components) else request.keep.early_stop_patience
    notices = (
        *_notices(model, model_identity, stores),
        *_about_map(rank_map, request.train, components),
        *_about_keeping(request.keep, patience, total // steps_per_epoch, held_out),
    )
    return TrainPlan(
        request=request,
        components=components,
        model=model,
        identity=model_identity,
        stores=stores,
        songs=songs,
        held_out=held_out,
        previewed=previewed_songs(request.preview, [*held_out, *songs]),
        targets=targets,
        rank_map=rank_map,
        trainable=trainable,
        learning_rate=peak_rate(request.train, components),
        window=crop_frames(request.data),
        visits=visits,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=min(request.train.warmup_steps, max(1, total // 10)),
        checkpointed_layers=layers,
        patience=patience,
        run=run,
        name=_run_name(request, components, run),
        resume=resume,
        notices=notices,
    )


def memory_on(plan: TrainPlan, device: str, precision: str) -> MemoryEstimate:
    """Return what the run takes on a device in a precision; a plan's own estimate has to guess them."""
    return estimate_memory(workload(plan, device, precision))


def workload(plan: TrainPlan, device: str, precision: str) -> Workload:
    """Return what the memory of a run depends on."""
    train = plan.request.train
    frames, rows = plan.longest
    return Workload(
        dims=plan.model.dims,
        adapted=adapted(plan.components.adapter, plan.targets, precision),
        trainable=plan.trainable or 0,
        batch=train.batch_size,
        frames=frames,
        rows=rows,
        precision=precision,
        accumulation=train.accumulation,
        optimizer_bytes=plan.components.optimizer.spec.bytes_per_parameter,
        average=train.ema_decay > 0,
        cpu=device == "cpu",
        quantize=plan.request.memory.quantize_base,
        waiting=plan.waiting_layers,
    )


def adapted(chosen: Chosen[AdapterType], targets: Sequence[Target], precision: str) -> tuple[Adapted, ...]:
    """Return the adapted projections with what an adapter keeps on each."""
    config, spec, mixed = config_of(chosen), chosen.spec, precision != "fp32"
    found = []
    for target in targets:
        _, layer, name = target.name.split(".", 2)
        shape = target.out_features, target.in_features
        if spec.keeps is not None:
            kept = spec.keeps(config, *shape, target.rank, mixed)
        else:
            trained = spec.count(config, *shape, target.rank) if spec.count is not None else 0
            kept = low_rank(target.in_features, trained / sum(shape), mixed)
        found.append(Adapted(layer=int(layer), name=name, in_features=target.in_features, kept=kept))
    return tuple(found)


def peak_rate(train: TrainConfig, components: Components) -> float:
    """Return the peak learning rate: the given one, then the optimizer's own, then the usual one."""
    own = components.optimizer.spec.default_learning_rate
    return next(rate for rate in (train.learning_rate, own, LEARNING_RATE) if rate is not None)


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


def checkpointed_layers(memory: MemoryConfig, layers: int) -> int | None:
    """Return how many layers the settings say to recompute, None when memory is to decide."""
    if memory.gradient_checkpointing is False:
        return 0
    if memory.gradient_checkpointing_ratio is not None:
        return round(layers * memory.gradient_checkpointing_ratio)
    return layers if memory.gradient_checkpointing else None


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
    what = f"run {record.get('name', '')!r} ({status_of(run, record)})" if record else "a run"
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


def _songs(
    stores: tuple[TensorStore, ...], request: TrainRequest
) -> tuple[tuple[TrainSong, ...], tuple[TrainSong, ...]]:
    songs = songs_of(stores, request.data)
    if not songs:
        path = stores[0].path
        raise DatasetError(f"'{path}' holds no song to train on; see 'sidestep tensors info {path}'")
    return hold_out(songs, request.data.val_split, request.train.seed)


def _notices(model: ModelFolder, model_identity: str, stores: Sequence[TensorStore]) -> Iterator[str]:
    for store in stores:
        if store.model and store.model != model_identity:
            yield (
                f"the tensors in '{store.path}' were made with another model than {model.name!r}; "
                "run 'sidestep preprocess' with this one for conditioning that fits"
            )
        silent = [song.name for song in store.songs if not song.repeat]
        if silent:
            yield f"{len(silent)} songs have repeat 0 and are not trained on, the first {silent[0]!r}"


def _holds_its_loss(components: Components) -> bool:
    """Tell whether a controller keeps the loss where it is wanted, so that no new best is to be expected."""
    return any(getattr(config_of(chosen), "target_loss", None) for chosen in components.controllers)


def _about_keeping(keep: KeepConfig, patience: int, epochs: int, held_out: Sequence[TrainSong]) -> Iterator[str]:
    if patience != keep.early_stop_patience:
        yield "--early-stop-patience is left out: with --target-loss the loss stays where it is wanted"
    if epochs < keep.save_best_after and (patience or (keep.save_best and held_out)):
        yield (
            f"the best adapter is not looked for: that begins after {keep.save_best_after} epochs (--save-best-after) "
            f"and the run has {epochs}"
        )


def _mapped(found: RankMap | None, adapter: Chosen[AdapterType], model: ModelFolder) -> Sequence[Target] | None:
    """Return the projections of a rank map, with sizes as the adapter type takes them."""
    return None if found is None else adapter.spec.fit(config_of(adapter), found.targets(model))


def _about_map(found: RankMap | None, train: TrainConfig, components: Components) -> Iterator[str]:
    if found is not None:
        # an optimizer with a rate of its own means something else by it
        usual = components.optimizer.spec.default_learning_rate is None
        rate = peak_rate(train, components) if usual else None
        yield from map_notices(found, rate, components.adapter.spec.name)
