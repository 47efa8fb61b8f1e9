"""The measurement from end to end: a model, every way of training it, a real run, and commands."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import attrs
import torch
from accelerate import Accelerator

from sidestep_core.bench.loop_cost import measure_loop
from sidestep_core.bench.settings import BenchConfig, BenchFinished, LoopFigure, StartFigure, StepFigure
from sidestep_core.bench.startup import measure_start
from sidestep_core.bench.timing import Clock, count_flops, in_turn, matmul, ratio
from sidestep_core.bench.ways import Sample, make_sample, other_steps, our_step, without_dropout
from sidestep_core.configs import ModelConfig, TargetsConfig
from sidestep_core.device import DTYPES, make_accelerator, resolve_device, resolve_precision
from sidestep_core.events import Event, Notice
from sidestep_core.model.decoder import Decoder
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.load import load_decoder
from sidestep_core.model.tiny import write_tiny
from sidestep_core.plan import FRAMES_PER_SECOND
from sidestep_core.requests import Choice, Chosen
from sidestep_core.specs import AdapterType
from sidestep_core.store.noise import write_noise
from sidestep_core.targets import Target, choose_targets

if TYPE_CHECKING:
    from sidestep_core.toolkit import Toolkit

MATMUL = "matmul"


@attrs.frozen(kw_only=True)
class _Bench:
    """What all measurements share."""

    toolkit: Toolkit
    config: BenchConfig
    model: ModelConfig
    decoder: Decoder
    accelerator: Accelerator
    dtype: torch.dtype
    clock: Clock
    targets: tuple[Target, ...]
    adapters: Mapping[str, Chosen[AdapterType]]

    @property
    def reference(self) -> Chosen[AdapterType]:
        return self.adapters[self.config.reference]

    def sample(self, seconds: float) -> Sample:
        frames = round(seconds * FRAMES_PER_SECOND)
        return make_sample(self.decoder, frames, self.config.rows, self.accelerator.device, self.dtype)


def bench(
    toolkit: Toolkit, config: BenchConfig, model: ModelConfig, *, starts: Mapping[str, Sequence[str]]
) -> Iterator[Event]:
    """Measure, and yield what is being measured, a `BenchFinished` last.

    Args:
        toolkit: has the adapter types.
        config: what is measured.
        model: a small one is made where it names none.
        starts: commands as they are typed, with the program and its arguments; in these {checkpoints}, {tensors} and
            {run} stand for folders.

    Raises:
        CheckpointError: the model cannot be used.
        UnknownName: there is no such adapter type.
        LoadError: an adapter type cannot be built.
    """
    adapters, notices = _adapters(toolkit, config)
    yield from notices
    with TemporaryDirectory() as work:
        root = Path(work)
        shared = _prepare(toolkit, config, _model(config, model, root), adapters)
        steps: list[StepFigure] = []
        loops: list[LoopFigure] = []
        for seconds in config.seconds:
            yield Notice(message=f"{seconds:g} s of audio: training steps")
            steps.extend(_measure_steps(shared, seconds))
            yield Notice(message=f"{seconds:g} s of audio: a run")
            loops.append(_measure_loop(shared, seconds, root / f"loop-{len(loops)}"))
        if starts:
            yield Notice(message="commands")
        commands = tuple(_measure_starts(shared, starts, root / "starts"))
        yield _finished(shared, tuple(steps), tuple(loops), commands)


def _model(config: BenchConfig, model: ModelConfig, root: Path) -> ModelConfig:
    """Return what is measured: device and precision decided, and a small model made where none is named."""
    device = resolve_device(model.device)
    model = attrs.evolve(model, device=device, precision=resolve_precision(model.precision, device))  # type: ignore[misc]
    if model.checkpoint_dir is not None or model.model is not None:
        return model
    write_tiny(root, hidden=config.hidden, layers=config.layers, window=config.window)
    return attrs.evolve(model, checkpoint_dir=root)  # type: ignore[misc]


def _prepare(
    toolkit: Toolkit, config: BenchConfig, model: ModelConfig, adapters: Mapping[str, Chosen[AdapterType]]
) -> _Bench:
    precision = resolve_precision(model.precision, model.device)
    accelerator = make_accelerator(model.device, precision)
    folder, dtype = toolkit.model(model), DTYPES[precision]
    return _Bench(
        toolkit=toolkit,
        config=config,
        model=model,
        decoder=load_decoder(folder, device=accelerator.device, dtype=dtype),
        accelerator=accelerator,
        dtype=dtype,
        clock=Clock(accelerator.device),
        targets=choose_targets(projection_shapes(folder.dims), TargetsConfig()),
        adapters=adapters,
    )


def _finished(
    shared: _Bench, steps: tuple[StepFigure, ...], loops: tuple[LoopFigure, ...], starts: tuple[StartFigure, ...]
) -> BenchFinished:
    dims, model = shared.decoder.dims, shared.model
    return BenchFinished(
        model=f"{shared.toolkit.model(model).name}, {dims.hidden_size} wide, {dims.num_layers} layers",
        device=model.device,
        precision=model.precision,
        clock=shared.clock.name,
        threads=torch.get_num_threads(),
        reference=shared.config.reference,
        steps=steps,
        loops=loops,
        starts=starts,
    )


def _adapters(toolkit: Toolkit, config: BenchConfig) -> tuple[dict[str, Chosen[AdapterType]], list[Notice]]:
    """Return the adapter types to measure, the reference first, and which were left out."""
    registry = toolkit.registry("adapter")
    wanted = dict.fromkeys((config.reference, *(config.adapter_types or (spec.name for spec in registry.values()))))
    found: dict[str, Chosen[Any]] = {
        name: Chosen(spec=toolkit.plugins.find("adapter", name), called=name) for name in wanted
    }
    named = {config.reference, *config.adapter_types}
    missing = {name: chosen.spec.missing() for name, chosen in found.items() if name not in named}
    notices = [
        Notice(message=f"{name} is left out: it needs {', '.join(needs)}", warning=True)
        for name, needs in missing.items()
        if needs
    ]
    return {name: without_dropout(chosen) for name, chosen in found.items() if not missing.get(name)}, notices


def _measure_steps(shared: _Bench, seconds: float) -> list[StepFigure]:
    """Return the training steps at a length, each against a matrix product in the same rounds."""
    sample, reference = shared.sample(seconds), shared.config.reference
    given = (shared.targets, shared.accelerator, sample)
    steps = {name: our_step(shared.decoder, chosen, *given) for name, chosen in shared.adapters.items()}
    if importlib.util.find_spec("peft") is not None:
        steps.update(other_steps(shared.decoder, shared.reference, *given))
    flops = {name: count_flops(step) for name, step in steps.items()}
    if shared.config.compile:
        compiled = f"{reference}, compiled"
        steps[compiled] = our_step(shared.decoder, shared.reference, *given, compiled=True)
        flops[compiled] = flops[reference]
    product, operations = matmul(shared.accelerator.device, shared.dtype)
    taken = in_turn({**steps, MATMUL: product}, shared.clock, shared.config.rounds)
    return [
        StepFigure(
            way=name,
            seconds=seconds,
            adapter=name in shared.adapters,
            time=statistics.median(taken[name]),
            ratio=ratio(taken[name], taken[reference]),
            flops=flops[name],
            matmul=operations / statistics.median(taken[MATMUL]),
            share=ratio(taken[MATMUL], taken[name]) * flops[name] / operations,
        )
        for name in steps
    ]


def _measure_loop(shared: _Bench, seconds: float, folder: Path) -> LoopFigure:
    sample, reference = shared.sample(seconds), shared.reference
    return measure_loop(
        shared.toolkit,
        shared.model,
        Choice(name=shared.config.reference, config=reference.config),
        our_step(shared.decoder, reference, shared.targets, shared.accelerator, sample),
        shared.clock,
        folder=folder,
        frames=sample.noise.shape[1],
        rows=shared.config.rows,
        rounds=shared.config.rounds,
    )


def _measure_starts(shared: _Bench, starts: Mapping[str, Sequence[str]], folder: Path) -> Iterator[StartFigure]:
    model = shared.toolkit.model(shared.model)
    store = write_noise(folder / "tensors", model, frames=[FRAMES_PER_SECOND], rows=[1])
    places = {"checkpoints": str(model.root), "tensors": str(store.path), "run": str(folder / "run")}
    for shown, command in starts.items():
        yield measure_start(shown, [part.format(**places) for part in command])
