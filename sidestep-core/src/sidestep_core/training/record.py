"""What a run says about itself: `run.json`, and the metadata of its adapter files."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import attrs

from sidestep_core.conversion import unstructure
from sidestep_core.errors import ConfigError
from sidestep_core.history import enter
from sidestep_core.locks import FolderLock, LockHeld, take_lock
from sidestep_core.plan import TrainPlan, config_of
from sidestep_core.requests import FIXED_TABLES, Chosen
from sidestep_core.runs import UNFINISHED, read_record, write_record

FORMAT = 1
LIBRARIES = ("sidestep-core", "torch", "diffusers", "accelerate", "peft", "lycoris-lora")


@attrs.frozen(kw_only=True)
class Begun:
    """A run that has its folder to itself.

    Attributes:
        lock: held until the run is over, so that others see that it goes on; None where the file system has no locks.
        notices: what the user should know.
    """

    lock: FolderLock | None
    notices: tuple[str, ...] = ()

    def end(self) -> None:
        """Give the folder back."""
        if self.lock is not None:
            self.lock.release()


def begin_record(plan: TrainPlan) -> Begun:
    """Take the folder of a run that starts or goes on, write its `run.json`, and enter it in the history.

    Raises:
        ConfigError: another process is training there.
    """
    plan.run.mkdir(parents=True, exist_ok=True)
    before = read_record(plan.run) or {}
    try:
        lock = take_lock(plan.run)
    except LockHeld as error:
        raise ConfigError(_held(plan, before)) from error
    record = _record(plan, before.get("created", time.time()))
    write_record(plan.run, record)
    return Begun(lock=lock, notices=tuple(enter(plan.run, record)))


def _held(plan: TrainPlan, record: Mapping[str, Any]) -> str:
    process = record.get("process", {})
    where = f" (process {process.get('pid')} on {process.get('host')})" if process else ""
    return f"run '{plan.run}' is going on{where}; stop it first, or choose another --output-dir"


def _record(plan: TrainPlan, created: float) -> dict[str, Any]:
    request, parts = plan.request, plan.components
    fixed = {table: unstructure(getattr(request, table)) for table in FIXED_TABLES}
    return {
        "format": FORMAT,
        "name": plan.name,
        "status": UNFINISHED,
        "created": created,
        "process": {"pid": os.getpid(), "host": platform.node()},
        "adapter_type": parts.adapter.called,
        "variant": plan.model.variant,
        "model": plan.model.name,
        "model_identity": plan.identity,
        "songs": len(plan.songs),
        "held_out": [song.name for song in plan.held_out],
        "learning_rate": plan.learning_rate,
        "targets": len(plan.targets),
        "rank_map": None if plan.rank_map is None else str(plan.rank_map.path),
        "trainable": plan.trainable,
        "total_steps": plan.total_steps,
        "epochs": request.train.epochs,
        "versions": versions(),
        "request": {
            **fixed,
            "adapter": component(parts.adapter),
            "timesteps": component(parts.timesteps),
            "lr-control": [component(chosen) for chosen in parts.controllers],
            "optimizer": component(parts.optimizer),
            "observe": [component(chosen) for chosen in parts.observers],
        },
    }


def adapter_metadata(plan: TrainPlan) -> dict[str, str]:
    """Return what an adapter file says about where it comes from; the same for every way a run was interrupted."""
    adapter = component(plan.components.adapter)
    decay = plan.request.train.ema_decay
    metadata = {
        "sidestep_version": versions()["sidestep-core"],
        "base_model": plan.model.name,
        "base_variant": plan.model.variant,
        "base_identity": plan.identity,
        "adapter_type": adapter.pop("type"),
        **{name: str(value) for name, value in adapter.items()},
        "conditioning": plan.stores[0].conditioning,
        "timesteps": json.dumps({**component(plan.components.timesteps), **_timestep_range(plan)}),
        # training has none; it is what the model generates with
        "shift": "3" if plan.model.dims.is_turbo else "1",
        "versions": json.dumps(versions()),
        "rank_map": "" if plan.rank_map is None else plan.rank_map.hash,
        "trigger_tag": ", ".join(sorted({song.tag for store in plan.stores for song in store.songs if song.tag})),
        "weights": f"exponential average, decay {decay:g}" if decay else "",
        "run": plan.name,
    }
    return {name: value for name, value in metadata.items() if value}


def _timestep_range(plan: TrainPlan) -> dict[str, float]:
    return {"min": plan.request.train.timestep_min, "max": plan.request.train.timestep_max}


def component(chosen: Chosen[Any]) -> dict[str, Any]:
    """Return a component's type and settings as plain values."""
    config = config_of(chosen)
    return {"type": chosen.called, **(unstructure(config) if attrs.has(type(config)) else {})}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a run's result depends on, as far as they are installed."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
