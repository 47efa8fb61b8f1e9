"""Preprocessing from end to end: songs and captions in, a tensor folder out, one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidestep_core.configs import PreprocessConfig
from sidestep_core.device import Resolved
from sidestep_core.events import Event, Notice, PreprocessFinished, SongRejected
from sidestep_core.model.layout import ModelFolder
from sidestep_core.preprocess.audio_pass import encode_audio, hash_songs
from sidestep_core.preprocess.condition_pass import encode_conditions
from sidestep_core.preprocess.finish import empty_store, finish_store, make_store, note_sources, write_pt_files
from sidestep_core.preprocess.plan import Entry, find_songs, make_entries, make_job
from sidestep_core.preprocess.text_pass import encode_texts, find_missing
from sidestep_core.songs import Problem
from sidestep_core.store.index import Source, read_index


def preprocess(
    config: PreprocessConfig, model: ModelFolder, *, device: str, dtype: Resolved, cancelled: Callable[[], bool]
) -> Iterator[Event]:
    """Make tensors from audio and captions; what is there and still right is kept.

    Every finished file is whole and named by all that made it, so a run that is stopped or killed at any moment loses
    nothing, and the same command goes on from there. A song that cannot be used is rejected and the others go on.
    Decoding starts processes anew: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        config: what to make.
        model: whose condition encoder, VAE and text encoder are used.
        device: where they run.
        dtype: what they compute in and tensors are stored in.
        cancelled: asked between songs; True stops.

    Yields:
        Stages, finished and rejected songs, notices, and at the end `PreprocessFinished`, also when all were rejected.

    Raises:
        ConfigError: the settings cannot be used.
        DatasetError: there is no song.
        CheckpointError: a model is missing or damaged.
        StoreError: the output's index is damaged or of a later format.
        Cancelled: the user asked to stop.
    """
    job = make_job(config, model, device=device, dtype=dtype, cancelled=cancelled)
    songs = find_songs(config)
    job.output.mkdir(parents=True, exist_ok=True)
    previous = read_index(job.output) or empty_store(job)
    sources: dict[str, Source] = {}
    rejected: list[SongRejected] = []
    yield from _noting(rejected, map(_report, songs.problems))

    def left(entries: list[Entry]) -> list[Entry]:
        names = {song.name for song in rejected}
        return [entry for entry in entries if entry.song.name not in names]

    entries = make_entries(songs, config)
    yield from _noting(rejected, hash_songs(job, entries, previous.sources, sources))
    note_sources(previous, sources)
    entries = left(entries)
    yield from _noting(rejected, encode_audio(job, entries))
    entries = left(entries)
    missing = find_missing(job, entries)
    yield from encode_texts(job, missing)
    yield from _noting(rejected, encode_conditions(job, missing))
    entries = left(entries)
    store = make_store(job, entries, sources)
    if config.tensor_format == "pt":
        yield from _noting(rejected, write_pt_files(job, entries, store))
        entries = left(entries)
        store = make_store(job, entries, sources)
    finish_store(job, store, previous, complete=not rejected)
    yield PreprocessFinished(
        written=sum(entry.renewed for entry in entries),
        kept=sum(not entry.renewed for entry in entries),
        rejected=tuple(rejected),
        seconds=sum(entry.seconds for entry in entries),
        cut_lyrics=sum(entry.cut_lyrics > 0 for entry in entries),
        output=job.output,
    )


def _report(problem: Problem) -> Event:
    if problem.lost:
        return SongRejected(name=problem.path.name.encode("utf-8", "replace").decode(), reason=problem.reason)
    return Notice(message=str(problem), warning=True)


def _noting(rejected: list[SongRejected], events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, SongRejected):
            rejected.append(event)
        yield event
