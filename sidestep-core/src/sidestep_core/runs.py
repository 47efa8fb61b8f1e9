"""Run folders: what is in them, where their progress stands, and which there are.

`<run>/{run.json, progress.jsonl, checkpoints/step_N/, best/, milestones/loss_X/, overtaken/, previews/step_N/, final/}`
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.errors import SidestepError
from sidestep_core.files import write_atomic

RECORD = "run.json"
PROGRESS = "progress.jsonl"
CHECKPOINTS = "checkpoints"
STATE = "state.json"
FINAL = "final"
BEST = "best"
MILESTONES = "milestones"
OVERTAKEN = "overtaken"
PREVIEWS = "previews"
UNFINISHED = "unfinished"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "status": str,
    "created": (int, float),
    "adapter_type": str,
    "variant": str,
    "total_steps": int,
    "epochs": int,
}
_STEP_FOLDER = re.compile(r"step_(\d+)\Z")


@attrs.frozen(kw_only=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        path: the run folder.
        name: its name.
        status: complete, max-steps, early-stop, stopped, failed, or unfinished (going on, or ended without a word).
        created: seconds since 1970.
        adapter_type: lora, ...
        variant: base, sft, turbo, ...
        step: last step that was reported.
        total_steps: steps planned.
        epoch: last epoch that was reported.
        epochs: epochs planned.
        loss: last reported loss (None before the first).
        best_loss: smallest mean loss of an epoch (of a step report, before the first epoch ended).
        adapter: folder of the trained adapter, if there is one.
        error: why it failed.
    """

    path: Path
    name: str
    status: str
    created: float
    adapter_type: str
    variant: str
    step: int
    total_steps: int
    epoch: int
    epochs: int
    loss: float | None
    best_loss: float | None
    adapter: Path | None
    error: str = ""


def read_progress(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a progress file, without those that a resume overtook; empty if there is none.

    Lines that a crash cut off or damaged are left out.
    """
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            continue
        if line.get("kind") == "start":
            lines = [earlier for earlier in lines if earlier["step"] <= line["step"]]
        lines.append(line)
    return lines


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `run.json` says, or None if the folder holds no run.

    Raises:
        SidestepError: the file is damaged.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise SidestepError(f"'{folder / RECORD}' is damaged ({error}); move the folder away") from error
    if not isinstance(record, dict):
        raise SidestepError(f"'{folder / RECORD}' is damaged (no object); move the folder away")
    # other programs write files of that name as well
    if wrong := [key for key, kind in _KINDS.items() if key in record and not isinstance(record[key], kind)]:
        raise SidestepError(f"'{folder / RECORD}' is not that of a run ({wrong[0]} is {record[wrong[0]]!r})")
    return record


def set_status(folder: Path, status: str, error: str = "") -> None:
    """Note in `run.json` how a run ended."""
    record = read_record(folder) or {}
    write_record(folder, {**record, "status": status, "error": error})


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return `(step, folder)` of every complete checkpoint of a run, oldest first."""
    found = [(_STEP_FOLDER.match(path.name), path) for path in (folder / CHECKPOINTS).glob("step_*")]
    return sorted((int(match[1]), path) for match, path in found if match and (path / STATE).is_file())


def read_run(folder: Path) -> Run | None:
    """Return the run in a folder, or None if there is none."""
    record = read_record(folder)
    if record is None:
        return None
    lines = read_progress(folder / PROGRESS)
    steps = [line for line in lines if line.get("kind") == "step"]
    epochs = [line for line in lines if line.get("kind") == "epoch"]
    last = max((*steps, *epochs), key=lambda line: line["step"], default={})
    losses = [line["loss"] for line in epochs or steps if line.get("loss") is not None]
    final = folder / FINAL
    return Run(
        path=folder,
        name=record.get("name", folder.name),
        status=record.get("status", UNFINISHED),
        created=record.get("created", 0.0),
        adapter_type=record.get("adapter_type", ""),
        variant=record.get("variant", ""),
        step=last.get("step", 0),
        total_steps=record.get("total_steps", 0),
        epoch=last.get("epoch", 0),
        epochs=record.get("epochs", 0),
        loss=last.get("loss"),
        best_loss=min(losses, default=None),
        adapter=final if final.is_dir() else None,
        error=record.get("error", ""),
    )


def find_runs(roots: Iterable[Path], *, depth: int = 2) -> list[Run]:
    """Return the runs at or below folders, newest first; folders that cannot be read are passed over.

    Args:
        roots: folders to look in; one may be a run itself.
        depth: how many levels below a root are searched.
    """
    found: dict[Path, Run] = {}
    for root in roots:
        for level in range(depth + 1):
            for record in root.glob("*/" * level + RECORD):
                try:
                    run = read_run(record.parent)
                except SidestepError:
                    continue  # one damaged folder must not hide the others
                if run is not None:
                    found[record.parent.resolve()] = run
    return sorted(found.values(), key=lambda run: (-run.created, run.name))
