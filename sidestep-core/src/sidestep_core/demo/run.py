"""From songs to a proven adapter in a minute: tiny checkpoint, songs measured and made tensors, training, report."""

from __future__ import annotations

import glob
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.analysis.result import map_file, write_map
from sidestep_core.configs import (
    DataConfig,
    MeasureConfig,
    ModelConfig,
    PreprocessConfig,
    PreviewConfig,
    RunConfig,
    TrainConfig,
)
from sidestep_core.dataset import scan_folder
from sidestep_core.demo.panels import way_panels
from sidestep_core.demo.report import ExportRow, Report, write_report
from sidestep_core.demo.way import way_picture
from sidestep_core.errors import Cancelled, DatasetError
from sidestep_core.events import (
    AnalysisFinished,
    DemoFinished,
    Event,
    Notice,
    PreprocessFinished,
    PreviewMade,
    RunFinished,
    StageStarted,
    StepsDone,
)
from sidestep_core.files import write_atomic
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.tiny import write_tiny
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.synthetic import write_songs

if TYPE_CHECKING:
    from sidestep_core.model.layout import ModelFolder
    from sidestep_core.toolkit import Toolkit

SONG_SECONDS = (2.0, 3.2, 2.4, 4.0, 2.8, 3.6)
OWN_SONGS = 6
OWN_SECONDS = 3.0
STEPS = 160
PREVIEW_SECONDS = 2.0
MARKER = ".sidestep-demo"
TARGETS = ("native", "diffusers")


def demo(toolkit: Toolkit, output: Path, audio_dir: Path | None, *, cancelled: Callable[[], bool]) -> Iterator[Event]:
    """Go the whole way and yield what happens, a `DemoFinished` last.

    Args:
        toolkit: plugins and settings.
        output: folder for everything that is made; its earlier content is replaced.
        audio_dir: the user's own songs instead of generated ones; a few seconds of the first few are used.
        cancelled: asked between songs and steps.

    Raises:
        DatasetError: `audio_dir` holds no usable song, or `output` holds something else.
    """
    if audio_dir is not None:
        _check_apart(output.resolve(), audio_dir.resolve())
    _clear(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()
    yield StageStarted(stage="model", total=0)
    checkpoints = output / "checkpoints"
    write_tiny(checkpoints)
    folder = output / "songs"
    if audio_dir:
        _copy_songs(audio_dir, folder)
    else:
        write_songs(folder, seconds=SONG_SECONDS)
    yield from _measure(toolkit, folder, cancelled)
    model = ModelConfig(checkpoint_dir=checkpoints, device="cpu", precision="fp32")
    tensors = PreprocessConfig(
        audio_dir=folder, tensor_output=output / "tensors", max_duration=OWN_SECONDS if audio_dir else 0.0
    )
    for event in toolkit.preprocess(tensors, model, cancelled=cancelled):
        yield event
        if isinstance(event, PreprocessFinished) and not event.written:
            raise DatasetError("none of the songs could be used: " + "; ".join(r.reason for r in event.rejected))
    yield from _analyze(toolkit, model, output, cancelled)
    # the rate is one for random weights: advice meant for real ones would only confuse
    plan = attrs.evolve(toolkit.plan(_run_of(model, output)), notices=())
    yield StageStarted(stage="train", total=plan.total_steps)
    steps: list[StepsDone] = []
    previews: list[Path] = []
    for event in toolkit.train(plan, stop=cancelled):
        yield event
        if isinstance(event, StepsDone):
            steps.append(event)
        if isinstance(event, PreviewMade):
            previews.extend(event.paths)
        if isinstance(event, RunFinished) and event.reason == "stopped":
            raise Cancelled(f"stopped; what was made so far is in '{output}'")
    adapter = output / "run" / "final"
    yield StageStarted(stage="export", total=len(TARGETS))
    exports = [_export(toolkit, target, adapter, plan.model, output / "export" / target) for target in TARGETS]
    for row in exports:
        yield Notice(message=f"{row.target}: {row.modules} modules read back by {row.reader}, {row.shown_error}")
    songs = tuple(folder / song.name for song in plan.songs)
    report = Report(songs=songs, previews=tuple(previews), steps=tuple(steps), exports=tuple(exports), plan=plan)
    picture = way_picture(way_panels(report, adapter))
    write_atomic(output / "way.svg", picture)
    page = write_report(output / "report.html", report, picture)
    yield DemoFinished(
        output=output,
        report=page,
        adapter=adapter,
        exports=tuple((row.target, row.path) for row in exports),
        first_loss=_mean_loss(steps[: max(1, len(steps) // 10)]),
        last_loss=_mean_loss(steps[-max(1, len(steps) // 10) :]),
    )


def _measure(toolkit: Toolkit, folder: Path, cancelled: Callable[[], bool]) -> Iterator[Event]:
    """Note tempo, key and metre of songs that do not say them, where an analyser is installed."""
    usable = [spec for spec in toolkit.registry("analyzer").values() if not spec.missing()]
    for spec in usable[:1]:
        yield from toolkit.measure(MeasureConfig(input=folder), Choice(name=spec.name), cancelled=cancelled)


def _analyze(toolkit: Toolkit, model: ModelConfig, output: Path, cancelled: Callable[[], bool]) -> Iterator[Event]:
    """Write a rank map beside the tensors, for training to find."""
    yield StageStarted(stage="analyze", total=0)
    config = AnalyzeConfig(dataset_dir=(output / "tensors",))
    for event in toolkit.analyze(config, model, cancelled=cancelled, cache=output / "cache"):
        if not isinstance(event, AnalysisFinished):
            yield event
            continue
        write_map(event.analysis, map_file(config))
        ranks = [module.rank for module in event.analysis.ranked]
        yield Notice(
            message=f"{len(ranks)} of {len(event.analysis.modules)} projections matter most and get ranks from "
            f"{min(ranks)} to {max(ranks)}"
        )


def _run_of(model: ModelConfig, output: Path) -> TrainRequest:
    return TrainRequest(
        model=model,
        data=DataConfig(dataset_dir=(output / "tensors",)),
        train=TrainConfig(learning_rate=1e-2, batch_size=2, accumulation=1, max_steps=STEPS, warmup_steps=5),
        run=RunConfig(output_dir=output / "run", run_name="demo", log_every=2, save_every_steps=STEPS // 2),
        preview=PreviewConfig(every_steps=STEPS // 2, seconds=PREVIEW_SECONDS),
    )


def _check_apart(output: Path, audio_dir: Path) -> None:
    """Refuse to write into the user's songs, or to read them from what is about to be cleared."""
    if output == audio_dir or output in audio_dir.parents or audio_dir in output.parents:
        raise DatasetError(f"'{output}' and '{audio_dir}' lie in each other; choose another folder with --output")


def _clear(output: Path) -> None:
    """Empty a folder that an earlier demonstration made; anything else in the way is left alone."""
    if output.exists() and not output.is_dir():
        raise DatasetError(f"'{output}' is a file; choose a folder with --output")
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / MARKER).is_file():
        raise DatasetError(f"'{output}' is not empty and was not made by a demo; choose another folder with --output")
    shutil.rmtree(output)


def _copy_songs(folder: Path, copies: Path) -> None:
    """Copy the first few of the user's songs with their sidecars, so that nothing of theirs is touched."""
    for song in scan_folder(folder).songs[:OWN_SONGS]:
        copy = copies / song.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(song.path, copy)
        for beside in song.path.parent.glob(f"{glob.escape(song.path.stem)}.*"):
            if beside.suffix.lower() == ".txt":
                shutil.copyfile(beside, copy.parent / beside.name)


def _export(toolkit: Toolkit, target: str, adapter: Path, model: ModelFolder, output: Path) -> ExportRow:
    report = toolkit.export(target, ExportRequest(adapter=adapter, output=output, model=model))
    return ExportRow(
        target=target, path=report.paths[0], modules=report.modules, error=report.error or 0.0, reader=report.reader
    )


def _mean_loss(steps: Sequence[StepsDone]) -> float:
    return statistics.fmean(step.loss for step in steps)
