"""The end of a run: the index, `.pt` files where they are asked for, and the removal of what nothing refers to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from sidestep_core.errors import StoreError
from sidestep_core.events import Event, SongFinished, SongRejected, StageStarted
from sidestep_core.model.load import load_silence
from sidestep_core.preprocess.plan import Entry, Job
from sidestep_core.store.index import (
    Source,
    StoredSong,
    TensorStore,
    read_index,
    write_index,
)
from sidestep_core.store.legacy import read_keys, write_pt
from sidestep_core.store.tensors import load_conditioning, load_latents


def note_sources(previous: TensorStore, sources: Mapping[str, Source]) -> None:
    """Write what was hashed into the index, so that a run that is killed need not hash it again."""
    if previous.sources != sources:
        write_index(attrs.evolve(previous, sources=sources))


def empty_store(job: Job) -> TensorStore:
    """Return a set without songs, as this run would make it."""
    return TensorStore(
        path=job.output,
        model=job.model_id,
        variant=job.model.variant,
        conditioning=job.config.conditioning,
        latent=job.config.latent,
        dtype=job.dtype,
    )


def make_store(job: Job, entries: Sequence[Entry], sources: Mapping[str, Source]) -> TensorStore:
    """Return the finished set."""
    songs = tuple(
        StoredSong(
            name=entry.song.name,
            frames=entry.frames,
            rows=entry.rows,
            seconds=entry.seconds,
            repeat=entry.song.repeat,
            latents_key=entry.latents_key,
            conditioning_key=entry.conditioning_key,
            prompt=entry.prompt,
            tag=entry.song.custom_tag or entry.tag,
            cut_lyrics=entry.cut_lyrics,
            source=str(entry.song.path.absolute()),
        )
        for entry in entries
    )
    return attrs.evolve(empty_store(job), songs=songs, sources=sources)


def finish_store(job: Job, store: TensorStore, previous: TensorStore, *, complete: bool) -> None:
    """Write the index and, if no song was rejected, remove the tensors that only the previous index referred to."""
    if read_index(job.output) != store:
        write_index(store)
    if complete:
        used = _files(store)
        for path in _files(previous) - used:
            path.unlink(missing_ok=True)
    shutil.rmtree(job.work, ignore_errors=True)


def write_pt_files(job: Job, entries: Sequence[Entry], store: TensorStore) -> Iterator[Event]:
    """Write each song that has none yet, or one made of other tensors, as `<name>.pt`, with `__` for each `/`."""
    songs = {song.name: song for song in store.songs}
    taken: dict[Path, str] = {}
    todo: list[tuple[Entry, Path]] = []
    for entry in entries:
        file = _pt_path(store, entry.song.name)
        other = taken.setdefault(file, entry.song.name)
        if other != entry.song.name:
            reason = f"its file '{file.name}' would be that of '{other}'; rename one"
            yield SongRejected(name=entry.song.name, reason=reason)
        elif read_keys(file) != (entry.latents_key, entry.conditioning_key):
            todo.append((entry, file))
    if not todo:
        return
    yield StageStarted(stage="pt", total=len(todo))
    silence = load_silence(job.model)
    for entry, file in todo:
        job.check_cancelled()
        song = songs[entry.song.name]
        try:
            latents, conditioning = load_latents(store, song).mean, load_conditioning(store, song)
        except StoreError as error:
            yield SongRejected(name=entry.song.name, reason=str(error))
            continue
        write_pt(file, latents, conditioning, silence, _pt_metadata(entry))
        entry.renewed = True
        yield SongFinished(stage="pt", name=entry.song.name, audio_seconds=entry.seconds)


def _pt_metadata(entry: Entry) -> dict[str, object]:
    song = entry.song
    return {
        "audio_path": str(song.path.absolute()),
        "filename": song.path.name,
        "caption": song.caption,
        "lyrics": song.lyrics,
        "duration": int(entry.seconds),
        "bpm": song.bpm,
        "keyscale": song.key,
        "timesignature": song.signature,
        "genre": song.genre,
        "is_instrumental": song.instrumental,
        "custom_tag": song.custom_tag or entry.tag,
        "prompt_override": song.prompt_override or None,
        "repeat": song.repeat,
        "keys": {"latents": entry.latents_key, "conditioning": entry.conditioning_key},
    }


def _pt_path(store: TensorStore, name: str) -> Path:
    return store.path / f"{name.replace('/', '__')}.pt"


def _files(store: TensorStore) -> set[Path]:
    """Return every file that is or may be there for a song of the set."""
    return {
        path
        for song in store.songs
        for path in (store.latents_file(song), store.conditioning_file(song), _pt_path(store, song.name))
    }
