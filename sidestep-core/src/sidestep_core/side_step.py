"""Run folders that Side-Step wrote, described as our own are: read only, and never with pickle.

`<run>/{training_config.json, sidestep_adapter_config.json, .progress.jsonl, checkpoints/epoch_N/, best/, early_exit/,
final/}`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidestep_core.progress import number

PROGRESS = ".progress.jsonl"
CONFIGS = ("training_config.json", "sidestep_training_config.json")
ADAPTER_CONFIG = "sidestep_adapter_config.json"
MARKS = (PROGRESS, *CONFIGS)
EARLY_EXIT = "early_exit"
# what only one adapter type has among its settings or files
TYPES: Mapping[str, str] = {"r": "lora", "block_size": "oft"}
FILES: Mapping[str, str] = {"lokr_weights.safetensors": "lokr", "loha_weights.safetensors": "loha"}


def describe(folder: Path) -> dict[str, Any] | None:
    """Return what the `run.json` of a Side-Step run would say, or None if the folder holds none."""
    if not any((folder / mark).is_file() for mark in MARKS):
        return None
    training = next((found for name in CONFIGS if (found := _read_object(folder / name))), {})
    adapter = _read_object(folder / ADAPTER_CONFIG)
    return {
        "name": folder.name,
        "created": _created(folder),
        "adapter_type": _adapter_type(folder, training, adapter),
        "variant": _text(training, "base_model") or _text(training, "model_variant"),
        "epochs": int(number(training, "max_epochs") or 0),
        "request": {"train": training, "adapter": adapter},
    }


def progress_facts(folder: Path, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what only the progress lines of a Side-Step run tell: how it ended, and of how many steps it was."""
    last = lines[-1] if lines else {}
    steps = [number(line, "steps_per_epoch") for line in lines if line.get("kind") == "step"]
    epochs = max((number(line, "max_epochs") or 0 for line in lines), default=0)
    facts: dict[str, Any] = {"status": _status(folder, last), "error": _text(last, "msg")}
    if epochs:
        facts["epochs"] = int(epochs)
        facts["total_steps"] = int(epochs * ((steps[-1] if steps else 0) or 0))
    return facts


def seconds_of(lines: list[dict[str, Any]]) -> float | None:
    """Return how long the epochs took: pauses between a stop and a resume are not marked in these files."""
    times = [seconds for line in lines if (seconds := number(line, "epoch_time")) is not None]
    return sum(times) if times else None


def _status(folder: Path, last: Mapping[str, Any]) -> str:
    """Return how a run ended: by its last line, which an early end does not leave, or by what it saved."""
    if last.get("kind") == "fail":
        return "failed"
    if last.get("kind") == "complete" or (folder / "final").is_dir():
        return "complete"
    return "stopped" if (folder / EARLY_EXIT).is_dir() else "unfinished"


def _created(folder: Path) -> float:
    marks = [folder / mark for mark in MARKS if (folder / mark).is_file()]
    oldest = min(mark.stat().st_mtime for mark in marks)
    if marks[0].name != PROGRESS:
        return oldest
    with marks[0].open("rb") as file:
        try:
            first = json.loads(file.readline(100_000))
        except (ValueError, RecursionError):
            return oldest
    began = number(first, "ts") if isinstance(first, dict) else None
    return oldest if began is None else began


def _adapter_type(folder: Path, training: Mapping[str, Any], adapter: Mapping[str, Any]) -> str:
    if adapter.get("use_dora") is True:
        return "dora"
    named = _text(training, "adapter_type")
    by_file = (kind for name, kind in FILES.items() if any(folder.glob(f"*/{name}")) or any(folder.glob(f"*/*/{name}")))
    by_setting = (kind for name, kind in TYPES.items() if name in adapter)
    return named or next(by_file, "") or next(by_setting, "")


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
