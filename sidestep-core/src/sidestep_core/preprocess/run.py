"""Preprocessing from end to end: songs and captions in, a tensor folder out, one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from sidestep_core.configs import PreprocessConfig
from sidestep_core.dataset import find_songs
from sidestep_core.device import Resolved
from sidestep_core.events import Event, Notice, PreprocessFinished, SongRejected
from sidestep_core.model.layout import ModelFolder
from sidestep_core.preprocess.audio_pass import encode_audio, hash_songs, take_hashes
from sidestep_core.preprocess.condition_pass import encode_conditions
from sidestep_core.preprocess.finish import empty_store, finish_store, make_store, note_sources, write_pt_files
from sidestep_core.preprocess.plan import Entry, Job, make_entries, make_job, set_prompts
from sidestep_core.preprocess.sharing import own_entries, pool, pool_sources
from sidestep_core.preprocess.text_pass import encode_texts, find_missing
from sidestep_core.processes import Team, join
from sidestep_core.songs import Problem
from sidestep_core.store.index import Source, TensorStore, read_index


def preprocess(
    config: PreprocessConfig, model: ModelFolder, *, device: str, dtype: Resolved, cancelled: Callable[[], bool]
) -> Iterator[Event]:
    """Make tensors from audio and captions; what is there and still right is kept.

    Every finished file is whole and named by all that made it, so a run that is stopped or killed at any moment loses
    nothing, and the same command goes on from there. A song that cannot be used is rejected and the others go on.
    Decoding starts processes anew: a script that calls this needs `if __name__ == "__main__":`. Processes that were
    started together share the songs and make the same set as one alone; the main one writes the index.

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
        OtherProcessFailed: another process failed or is gone.
        Cancelled: the user asked to stop.
    """
    with join(device, cancelled) as team:
        job = make_job(config, model, device=device, dtype=dtype, cancelled=cancelled)
        yield from _run(job, team)


def _run(job: Job, team: Team) -> Iterator[Event]:
    songs = find_songs(job.config)
    job.output.mkdir(parents=True, exist_ok=True)
    previous = read_index(job.output) or empty_store(job)
    if team.count > 1:
        yield Notice(message=f"{team.count} processes share the songs; what follows counts those of the first")
    problems = list(map(_report, songs.problems))
    rejected = [event for event in problems if isinstance(event, SongRejected)]
    yield from problems

    def left(entries: Sequence[Entry]) -> list[Entry]:
        names = {song.name for song in rejected}
        return [entry for entry in entries if entry.song.name not in names]

    entries = make_entries(songs, job.config)
    found: dict[str, Source] = {}
    own = team.own(entries)
    yield from pool(team, own, entries, hash_songs(job, own, previous.sources, found), rejected)
    pool_sources(team, found)
    sources = take_hashes(job, entries, found)
    if team.main:
        note_sources(previous, sources)
    entries = left(entries)
    own = own_entries(team, entries, lambda entry: entry.latents_key)
    yield from pool(team, own, entries, encode_audio(job, own), rejected)
    entries = left(entries)
    for entry in entries:
        set_prompts(job, entry)
    own = own_entries(team, entries, lambda entry: entry.conditioning_key)
    missing = find_missing(job, own)
    work = chain(encode_texts(job, missing), encode_conditions(job, missing))
    yield from pool(team, own, entries, work, rejected)
    if team.main:
        yield from _finish(job, left(entries), sources, previous, rejected)


def _finish(
    job: Job,
    entries: list[Entry],
    sources: Mapping[str, Source],
    previous: TensorStore,
    rejected: list[SongRejected],
) -> Iterator[Event]:
    store = make_store(job, entries, sources)
    if job.config.tensor_format == "pt":
        refused = []
        for event in write_pt_files(job, entries, store):
            if isinstance(event, SongRejected):
                refused.append(event)
            yield event
        names = {song.name for song in refused}
        rejected.extend(refused)
        entries = [entry for entry in entries if entry.song.name not in names]
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
