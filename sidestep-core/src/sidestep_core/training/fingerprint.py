"""What a resumed run must share with the run it goes on from, and how the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidestep_core.conversion import unstructure
from sidestep_core.files import hash_text
from sidestep_core.plan import TrainPlan
from sidestep_core.training.record import component
from sidestep_core.training.sets import TrainSong

# may change on resume: they move the end, or change where and how fast the work is done, not what comes out of a step
FREE = frozenset(
    {
        "train.epochs",
        "train.max_steps",
        "memory.gradient_checkpointing",
        "memory.gradient_checkpointing_ratio",
        "memory.block_swap",
        "data.dataset_dir",
        "data.num_workers",
        "data.pin_memory",
        "data.prefetch_factor",
        # what counts is the ranks in use
        "targets.ignore_fisher_map",
        "targets.fisher_map",
    }
)


def fingerprint(plan: TrainPlan, precision: str) -> dict[str, Any]:
    """Return everything that decides what comes out of a step, as plain values; what is kept when is no part of it."""
    components = plan.components
    tables: dict[str, dict[str, Any]] = {
        "model": {"identity": plan.identity, "precision": precision},
        "train": {**unstructure(plan.request.train), "learning_rate": plan.learning_rate},
        "data": unstructure(plan.request.data),
        "targets": {**unstructure(plan.request.targets), "rank_map": plan.rank_map and plan.rank_map.hash},
        "memory": unstructure(plan.request.memory),
        "adapter": component(components.adapter),
        "timesteps": component(components.timesteps),
        "optimizer": component(components.optimizer),
        "lr-control": {c.called: component(c) for c in components.controllers},
    }
    settings = {f"{table}.{key}": value for table, values in tables.items() for key, value in values.items()}
    songs = {song.name: _song(song) for song in plan.songs}
    return {"settings": {k: v for k, v in settings.items() if k not in FREE}, "songs": songs}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings (`table.name`) that are not as they were."""
    old, new = before["settings"], now["settings"]
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each thing that is not as it was."""
    for key in changed_settings(before, now):
        yield f"{key} was {before['settings'].get(key)!r}, now {now['settings'].get(key)!r}"
    old, new = before["songs"], now["songs"]
    for words, names in (
        ("gone", old.keys() - new.keys()),
        ("new", new.keys() - old.keys()),
        ("changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
    ):
        if names:
            yield f"{len(names)} songs {words}, such as {min(names)!r}"


def _song(song: TrainSong) -> str:
    stored = song.stored
    parts = (stored.frames, stored.rows, song.visits, song.weight, stored.latents_key, stored.conditioning_key)
    return hash_text(" ".join(map(str, parts)))[:16]
