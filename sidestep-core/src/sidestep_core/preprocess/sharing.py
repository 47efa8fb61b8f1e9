"""Preprocessing shared by processes: each takes some of the tensors, and all learn what became of every song."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from sidestep_core.events import Event, Notice, SongRejected
from sidestep_core.preprocess.plan import Entry
from sidestep_core.processes import Team
from sidestep_core.store.index import Source

# what the stages find out about a song
FOUND = ("frames", "seconds", "rows", "cut_lyrics", "renewed")
TOLD: Mapping[str, type[Event]] = {kind.__name__: kind for kind in (Notice, SongRejected)}


def own_entries(team: Team, entries: Sequence[Entry], key: Callable[[Entry], str]) -> list[Entry]:
    """Return the entries whose tensors this process makes; those that share one stay together."""
    keys = set(team.own(list(dict.fromkeys(map(key, entries)))))
    return [entry for entry in entries if key(entry) in keys]


def pool(
    team: Team, own: Sequence[Entry], entries: Sequence[Entry], events: Iterator[Event], rejected: list[SongRejected]
) -> Iterator[Event]:
    """Do a stage for the entries of this process, then take over what the others found out about theirs.

    Args:
        team: the processes.
        own: entries of this process.
        entries: all entries.
        events: does the stage.
        rejected: the songs of all processes that cannot be used are added.
    """
    told: list[Any] = []
    for event in events:
        if type(event).__name__ in TOLD:
            told.append([type(event).__name__, attrs.asdict(event)])
        yield event
    found = {entry.song.name: [getattr(entry, name) for name in FOUND] for entry in own}
    by_name = {entry.song.name: entry for entry in entries}
    for rank, (theirs, facts) in enumerate(team.exchange((told, found))):
        heard = [TOLD[kind](**fields) for kind, fields in theirs]
        rejected.extend(event for event in heard if isinstance(event, SongRejected))
        if rank != team.rank:
            yield from heard
        for song, values in facts.items():
            for name, value in zip(FOUND, values, strict=True):
                setattr(by_name[song], name, value)


def pool_sources(team: Team, sources: dict[str, Source]) -> None:
    """Add the audio files that other processes hashed."""
    for theirs in team.exchange({path: attrs.asdict(source) for path, source in sources.items()}):
        sources.update({path: Source(**fields) for path, fields in theirs.items()})
