"""Measure what can be heard of songs (tempo, key, metre) and note it in their sidecars; no model, no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from sidestep_core.configs import MeasureConfig
from sidestep_core.dataset import find_audio
from sidestep_core.describing.provenance import Source, may_overwrite, read_sources, record
from sidestep_core.errors import AudioError, Cancelled, ConfigError, DatasetError
from sidestep_core.events import Event, MeasureFinished, SongMeasured, SongRejected, StageStarted
from sidestep_core.interfaces import Analyzer, Confidence, Measured
from sidestep_core.requests import Chosen
from sidestep_core.sidecars import Sidecar, overwrites, read_sidecar, write_sidecar
from sidestep_core.specs import AnalyzerType, BuildContext

_LEVELS: tuple[Confidence, ...] = ("low", "medium", "high")
STAGE = "measure"

Outcome = Mapping[str, Measured] | AudioError


@attrs.frozen(kw_only=True)
class Task:
    """A song to measure: its file, its path below the folder, the wanted fields, and what to measure them with."""

    path: Path
    name: str
    wanted: frozenset[str]
    analyzer: Chosen[AnalyzerType]
    context: BuildContext


def measure(config: MeasureConfig, analyzer: Chosen[AnalyzerType], *, cancelled: Callable[[], bool]) -> Iterator[Event]:
    """Measure songs and write what is certain enough into their sidecars, each as soon as it is known.

    A song whose sidecar says all of it already is not even decoded. Processes are started anew: a script that calls
    this needs `if __name__ == "__main__":`.

    Args:
        config: which songs, and what may be overwritten.
        analyzer: what measures.
        cancelled: asked between songs; True stops.

    Yields:
        The stage, measured and rejected songs, and at the end `MeasureFinished`, also when all were rejected.

    Raises:
        ConfigError: no folder is named.
        DatasetError: the folder is missing or holds no songs.
        LoadError: the analyser cannot be used.
        Cancelled: the user asked to stop; sidecars that were written stay.
    """
    songs = find_songs(config)
    analyzer.spec.load()  # what is missing is said once, before anything is decoded
    tasks, rejected = _plan(songs, config, analyzer)
    complete = len(songs) - len(tasks) - len(rejected)
    yield StageStarted(stage=STAGE, total=len(tasks))
    yield from rejected
    measured: list[SongMeasured] = []
    for task, outcome in _outcomes(tasks, config.workers):
        event = _note(task, outcome, config)
        yield event
        if isinstance(event, SongRejected):
            rejected.append(event)
        else:
            measured.append(event)
        if cancelled():
            raise Cancelled(f"stopped after {len(measured) + len(rejected)} of {len(tasks)} songs")
    yield MeasureFinished(
        written=sum(bool(song.written) for song in measured),
        complete=complete,
        doubtful=sum(bool(song.doubtful) for song in measured),
        rejected=tuple(rejected),
        dry_run=config.dry_run,
    )


def find_songs(config: MeasureConfig) -> list[Path]:
    """Return the songs of the folder; raise `ConfigError` or `DatasetError` where there are none."""
    if config.input is None:
        raise ConfigError("no songs: give --input, a folder")
    if not (songs := find_audio(config.input)):
        raise DatasetError(f"no audio in '{config.input}'")
    return songs


def measure_song(task: Task) -> Mapping[str, Measured]:
    """Decode a song and measure it; raise `AudioError` if it cannot be used."""
    return _measure_with(task.analyzer.build(task.context), task)


def _measure_with(analyzer: Analyzer, task: Task) -> Mapping[str, Measured]:
    from sidestep_core.audio.decode import decode

    found = analyzer.analyze(decode(task.path), task.wanted)
    return {name: found[name] for name in sorted(task.wanted & found.keys())}


def _plan(
    songs: Sequence[Path], config: MeasureConfig, analyzer: Chosen[AnalyzerType]
) -> tuple[list[Task], list[SongRejected]]:
    """Return what is to be measured, and the songs whose sidecars cannot be read."""
    tasks: list[Task] = []
    rejected: list[SongRejected] = []
    context = BuildContext(device=config.device)
    for path in songs:
        name = path.relative_to(config.input or path.parent).as_posix()
        try:
            wanted = _wanted(path, config, analyzer.spec.supplies)
        except DatasetError as error:
            rejected.append(SongRejected(name=name, reason=str(error)))
            continue
        if wanted:
            tasks.append(Task(path=path, name=name, wanted=wanted, analyzer=analyzer, context=context))
    return tasks, rejected


def _wanted(path: Path, config: MeasureConfig, supplies: frozenset[str]) -> frozenset[str]:
    """Return the fields that a measurement may fill or replace; raise `DatasetError` if a record cannot be read."""
    known, sources = read_sidecar(path) or Sidecar(), read_sources(path)
    return frozenset(name for name in supplies if _may_write(name, known, sources, config))


def _may_write(name: str, known: Sidecar, sources: Mapping[str, Source], config: MeasureConfig) -> bool:
    overwrite = overwrites(config.policy, name)
    return may_overwrite(name, getattr(known, name), sources, kind="measured", overwrite=overwrite)


def _outcomes(tasks: Sequence[Task], workers: int | None) -> Iterator[tuple[Task, Outcome]]:
    """Yield what became of each song; an analyser that holds a model measures one after the other in this process."""
    if not tasks:
        return
    if tasks[0].analyzer.spec.in_processes:
        from sidestep_core.audio.workers import in_processes

        yield from in_processes(measure_song, tasks, workers=workers or os.cpu_count() or 1)
        return
    analyzer = tasks[0].analyzer.build(tasks[0].context)
    for task in tasks:
        try:
            yield task, _measure_with(analyzer, task)
        except AudioError as error:
            yield task, error


def _note(task: Task, outcome: Outcome, config: MeasureConfig) -> SongMeasured | SongRejected:
    """Write what is certain enough into the sidecar, as it is by now, and return what became of the song."""
    if isinstance(outcome, AudioError):
        return SongRejected(name=task.name, reason=str(outcome))
    certain = {name for name, found in outcome.items() if _reaches(found.confidence, config.confidence)}
    try:
        known, sources = read_sidecar(task.path) or Sidecar(), read_sources(task.path)
        new = {name: outcome[name].value for name in sorted(certain) if _may_write(name, known, sources, config)}
        described = attrs.evolve(known, **new)
        if new and not config.dry_run:
            if described != known:
                write_sidecar(task.path, described)
            levels = {name: outcome[name].confidence for name in new}
            record(task.path, new, source=task.analyzer.spec.name, kind="measured", confidence=levels)
    except (DatasetError, OSError) as error:
        return SongRejected(name=task.name, reason=str(error))
    written = tuple(name for name in new if getattr(described, name) != getattr(known, name))
    return SongMeasured(name=task.name, found=outcome, written=written, doubtful=tuple(sorted(task.wanted - certain)))


def _reaches(confidence: Confidence, least: Confidence) -> bool:
    return _LEVELS.index(confidence) >= _LEVELS.index(least)
