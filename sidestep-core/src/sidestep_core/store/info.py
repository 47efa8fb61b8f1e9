"""What a tensor folder holds: counts, lengths, bytes, what is missing, and on demand a look into every file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import inf
from pathlib import Path

import attrs

from sidestep_core.store.index import TensorStore

LENGTH_EDGES = (0.0, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0, inf)


@attrs.frozen(kw_only=True)
class StoreInfo:
    """A summary of a tensor folder.

    Attributes:
        store: the folder, with the lengths of its songs.
        seconds: audio in the set, every song once.
        lengths: `(from, to, songs)` of the length histogram, in seconds; empty bins are left out.
        bytes: size of all tensor files.
        shared: songs whose latents are also another song's, because their audio is the same.
        cut_lyrics: songs whose lyrics did not fit.
        missing: tensor files that are not there.
        problems: what is wrong with the files; empty unless verified.
    """

    store: TensorStore
    seconds: float
    lengths: tuple[tuple[float, float, int], ...]
    bytes: int
    shared: int
    cut_lyrics: int
    missing: tuple[Path, ...]
    problems: tuple[str, ...] = ()


def store_info(store: TensorStore, *, verify: bool = False) -> StoreInfo:
    """Summarise a tensor folder.

    Args:
        store: an open folder; a `.pt` set is measured, which needs torch.
        verify: read every tensor as well: shapes, finite values, headers that match the index. Needs torch.

    Raises:
        StoreError: a file of a `.pt` set cannot be read and `verify` is not asked for.
    """
    problems: tuple[str, ...] = ()
    if verify:
        from sidestep_core.store.verify import find_problems

        problems = tuple(find_problems(store))
    if store.kind == "pt" and not problems:
        from sidestep_core.store.legacy import measure

        store = measure(store)
    sizes = {file: _size(file) for file in _files(store)}
    return StoreInfo(
        store=store,
        seconds=sum(song.seconds for song in store.songs),
        lengths=tuple(_histogram([song.seconds for song in store.songs])),
        bytes=sum(size or 0 for size in sizes.values()),
        shared=len(store.songs) - len({store.latents_file(song) for song in store.songs}),
        cut_lyrics=sum(song.cut_lyrics > 0 for song in store.songs),
        missing=tuple(file for file, size in sizes.items() if size is None),
        problems=problems,
    )


def _files(store: TensorStore) -> Iterator[Path]:
    for song in store.songs:
        yield store.latents_file(song)
        yield store.conditioning_file(song)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def _histogram(seconds: list[float]) -> Iterator[tuple[float, float, int]]:
    for low, high in pairwise(LENGTH_EDGES):
        if count := sum(low <= value < high for value in seconds):
            yield low, high, count
