"""Pass 1, audio: processes decode, the VAE encodes tiles of several songs at once, each song is written when done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
from torch import nn

from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.loudness import Loudness
from sidestep_core.audio.source import Samples
from sidestep_core.device import free_memory
from sidestep_core.errors import AudioError, StoreError
from sidestep_core.events import Event, SongFinished, SongRejected, StageStarted
from sidestep_core.files import hash_file
from sidestep_core.model.load import load_vae
from sidestep_core.preprocess.decoding import Decoding, decode_all
from sidestep_core.preprocess.latents import LatentStats, choose_tile_seconds, encode, plan_tiles, sample
from sidestep_core.preprocess.plan import Entry, Job, set_latents_key, set_samples
from sidestep_core.store.index import Source, latents_path
from sidestep_core.store.tensors import Latents, read_metadata, write_latents

_BATCHES = (8, 4, 2, 1)


@attrs.frozen(kw_only=True)
class _Decoded:
    """A song between decoding and encoding: who uses it, where its samples are, how many, and how levelled."""

    entries: Sequence[Entry]
    scratch: Path
    samples: int
    loudness: Loudness


def hash_songs(
    job: Job, entries: Sequence[Entry], known: Mapping[str, Source], found: dict[str, Source]
) -> Iterator[Event]:
    """Find out what each audio file holds.

    Args:
        job: the run.
        entries: its songs.
        known: files of earlier runs; those with the same size and time of change are not read.
        found: filled with the files of this run.
    """
    for entry in entries:
        if source := _unchanged(entry.song.path, known):
            found[_full(entry)] = source
    unread = [entry for entry in entries if _full(entry) not in found]
    if unread:
        yield StageStarted(stage="scan", total=len(unread))
    for entry in unread:
        job.check_cancelled()
        try:
            found[_full(entry)] = _read_source(entry.song.path)
        except OSError as error:
            reason = f"cannot be read: {(error.strerror or str(error)).lower()}"
            yield SongRejected(name=entry.song.name, reason=reason)
        else:
            yield SongFinished(stage="scan", name=entry.song.name)


def take_hashes(job: Job, entries: Sequence[Entry], found: Mapping[str, Source]) -> dict[str, Source]:
    """Set the keys of the latents of entries whose file was hashed; return the files in the order of the entries."""
    sources: dict[str, Source] = {}
    for entry in entries:
        if source := found.get(_full(entry)):
            sources[_full(entry)] = source
            entry.hash = source.hash
            set_latents_key(job, entry)
    return sources


def encode_audio(job: Job, entries: Sequence[Entry]) -> Iterator[Event]:
    """Make the latents that are missing; songs with the same audio share theirs.

    Raises:
        Cancelled: the user asked to stop.
        CheckpointError: the VAE cannot be loaded.
    """
    missing: dict[str, list[Entry]] = {}
    for entry in entries:
        if not _take_existing(job, entry):
            missing.setdefault(entry.latents_key, []).append(entry)
    if not missing:
        return
    yield StageStarted(stage="audio", total=sum(map(len, missing.values())))
    vae = load_vae(job.model, device=job.device, dtype=job.torch_dtype)
    scratch = job.work / f"audio-{job.place.rank}"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a run that was killed
    scratch.mkdir(parents=True)
    yield from _encode_missing(job, vae, missing, scratch)
    shutil.rmtree(scratch)


def _take_existing(job: Job, entry: Entry) -> bool:
    header = read_metadata(latents_path(job.output, entry.latents_key))
    if header is None:
        return False
    set_samples(entry, int(header["samples"]), int(header["frames"]))
    return True


def _encode_missing(job: Job, vae: nn.Module, missing: Mapping[str, Sequence[Entry]], scratch: Path) -> Iterator[Event]:
    config = job.config
    tasks = [
        Decoding(
            path=same[0].song.path,
            scratch=scratch / f"{key}.npy",
            max_seconds=config.max_duration,
            method=config.normalize,
            target_db=config.target_db,
            target_lufs=config.target_lufs,
        )
        for key, same in missing.items()
    ]
    tile_seconds, batch_tiles = _tiling(job)
    batch: list[_Decoded] = []
    for task, outcome in decode_all(tasks, workers=_workers(job)):
        job.check_cancelled()
        same = missing[task.scratch.stem]
        if isinstance(outcome, AudioError):
            yield from (SongRejected(name=entry.song.name, reason=str(outcome)) for entry in same)
            continue
        samples = _map(task.scratch).shape[1]
        batch.append(_Decoded(entries=same, scratch=task.scratch, samples=samples, loudness=outcome))
        if sum(len(plan_tiles(d.samples, tile_seconds=tile_seconds)) for d in batch) >= batch_tiles:
            yield from _encode_batch(job, vae, batch, tile_seconds, batch_tiles)
            batch = []
    yield from _encode_batch(job, vae, batch, tile_seconds, batch_tiles)


def _workers(job: Job) -> int:
    return job.config.workers or max(1, (os.cpu_count() or 1) // job.place.local_count)


def _tiling(job: Job) -> tuple[float, int]:
    """Return the tile length and how many tiles are encoded at once: as many as need no shorter tiles."""
    free = free_memory(job.device)
    longest = choose_tile_seconds(job.device, None)
    # a CPU gains nothing from batches
    sizes = (1,) if job.device == "cpu" else _BATCHES
    batch = next((n for n in sizes if choose_tile_seconds(job.device, free // n) == longest), 1)
    return job.config.tile_seconds or choose_tile_seconds(job.device, free), batch


def _encode_batch(
    job: Job, vae: nn.Module, batch: Sequence[_Decoded], tile_seconds: float, batch_tiles: int
) -> Iterator[Event]:
    audios = [_map(decoded.scratch) for decoded in batch]
    encoded = encode(vae, audios, tile_seconds=tile_seconds, batch_tiles=batch_tiles)
    del audios  # a mapped file cannot be removed on Windows
    for decoded, stats in zip(batch, encoded, strict=True):
        decoded.scratch.unlink()
        yield from _finish_song(job, decoded, stats)


def _map(scratch: Path) -> Samples:
    """Map a song's samples: only the tile that is encoded is in memory. Copy-on-write, because torch wants to write."""
    return np.load(scratch, mmap_mode="c")  # type: ignore[no-any-return]


def _finish_song(job: Job, decoded: _Decoded, stats: LatentStats) -> Iterator[Event]:
    key = decoded.entries[0].latents_key
    samples, frames = decoded.samples, len(stats.mean)
    metadata = {
        "key": key,
        "latent": job.config.latent,
        "dtype": job.dtype,
        "vae": job.vae_id,
        "source": decoded.entries[0].song.name,
        "samples": str(samples),
        "frames": str(frames),
        "seconds": str(samples / SAMPLE_RATE),
        "loudness": json.dumps(attrs.asdict(decoded.loudness)),
    }
    try:
        write_latents(latents_path(job.output, key), _drawn(job, stats, key), metadata)
    except StoreError as error:
        yield from (SongRejected(name=entry.song.name, reason=str(error)) for entry in decoded.entries)
        return
    for entry in decoded.entries:
        set_samples(entry, samples, frames)
        entry.renewed = True
        yield SongFinished(stage="audio", name=entry.song.name, audio_seconds=entry.seconds)


def _drawn(job: Job, stats: LatentStats, key: str) -> Latents:
    dtype = job.torch_dtype
    if job.config.latent == "sample":
        return Latents(sample(stats, seed=job.config.seed, key=key).to(dtype))
    return Latents(stats.mean.to(dtype), stats.std.to(dtype) if job.config.latent == "resample" else None)


def _full(entry: Entry) -> str:
    return str(entry.song.path.absolute())


def _unchanged(path: Path, known: Mapping[str, Source]) -> Source | None:
    """Return what is known of a file that has the size and time of change that it had then."""
    source = known.get(str(path.absolute()))
    try:
        status = path.stat()
    except OSError:
        return None  # reading it says why
    same = source is not None and (source.size, source.mtime_ns) == (status.st_size, status.st_mtime_ns)
    return source if same else None


def _read_source(path: Path) -> Source:
    status = path.stat()
    return Source(size=status.st_size, mtime_ns=status.st_mtime_ns, hash=hash_file(path))
