"""Run folders: what is in them, where their progress stands, and which there are.

`<run>/{run.json, progress.jsonl, checkpoints/step_N/, best/, milestones/loss_X/, overtaken/, previews/step_N/, final/}`
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from sidestep_core import side_step
from sidestep_core.errors import SidestepError
from sidestep_core.files import locate_folder, write_atomic
from sidestep_core.locks import is_locked
from sidestep_core.progress import Line, number, of_kind, read_progress, seconds_of

RECORD = "run.json"
PROGRESS = "progress.jsonl"
CHECKPOINTS = "checkpoints"
STATE = "state.json"
FINAL = "final"
BEST = "best"
MILESTONES = "milestones"
OVERTAKEN = "overtaken"
PREVIEWS = "previews"
EVENTS = "runs"
UNFINISHED = "unfinished"
RUNNING, LOST, MISSING = "running", "lost", "missing"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "status": str,
    "created": (int, float),
    "adapter_type": str,
    "variant": str,
    "model": str,
    "total_steps": int,
    "epochs": int,
    "request": dict,
    "error": str,
}
_MARKS = (RECORD, *side_step.MARKS)
_STEP_FOLDER = re.compile(r"step_(\d+)\Z")
_SAVED_FOLDER = re.compile(r"(?:step|epoch)_(\d+)\Z")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".ckpt", ".npz")


@attrs.frozen(kw_only=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        path: the run folder.
        name: its name.
        status: running; complete, max-steps, early-stop, stopped or failed; lost (its process ended without a word);
            missing (its folder is gone); unfinished (running or lost, which cannot be told).
        created: seconds since 1970.
        adapter_type: lora, ...
        variant: base, sft, turbo, ...
        step: last step that was reported.
        total_steps: steps planned.
        epoch: last epoch that was reported.
        epochs: epochs planned.
        loss: last reported loss (None before the first).
        best_loss: smallest loss: of the held-out songs if there were any, else mean of an epoch, else of a report.
        best_of: which of these it is: validation, epoch, step; "" before the first.
        seconds: how long it was trained, without pauses and without what a resume overtook.
        adapter: folder of the trained adapter to use, if there is one.
        error: why it failed.
        model: name of the base model's folder.
        settings: every setting by table.
    """

    path: Path
    name: str
    status: str
    created: float
    adapter_type: str
    variant: str
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    best_loss: float | None = None
    best_of: str = ""
    seconds: float | None = None
    adapter: Path | None = None
    error: str = ""
    model: str = ""
    settings: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


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
    except (FileNotFoundError, NotADirectoryError):
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


def status_of(folder: Path, record: Mapping[str, Any]) -> str:
    """Return how a run ended; of one that noted nothing, whether its process still holds the folder."""
    status: str = record.get("status", UNFINISHED)
    if status != UNFINISHED or not (folder / RECORD).is_file():
        return status
    return {True: RUNNING, False: LOST, None: UNFINISHED}[is_locked(folder)]


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return `(step, folder)` of every complete checkpoint of a run, oldest first."""
    found = [(_STEP_FOLDER.match(path.name), path) for path in (folder / CHECKPOINTS).glob("step_*")]
    return sorted((int(match[1]), path) for match, path in found if match and (path / STATE).is_file())


def find_adapters(run: Path) -> list[Path]:
    """Return the folders of a run that hold an adapter, the one to use first.

    That is what the run ended with, then the best it kept, then what the newest checkpoint holds, then milestones and
    what a resume set aside.
    """
    return [folder for folder in _adapter_folders(run) if holds_weights(folder)]


def holds_weights(folder: Path) -> bool:
    """Tell whether a folder holds a file of weights other than the state of a training."""
    if not folder.is_dir():
        return False
    files = (path for path in folder.iterdir() if path.suffix in _WEIGHTS and path.stem != "training_state")
    return any(path.is_file() and path.stat().st_size for path in files)


def progress_file(folder: Path) -> Path:
    """Return the progress file of a run, ours or Side-Step's."""
    theirs = folder / side_step.PROGRESS
    return theirs if theirs.is_file() and not (folder / PROGRESS).is_file() else folder / PROGRESS


def read_run(folder: Path) -> Run | None:
    """Return the run in a folder, or None if there is none."""
    record = _describe(folder)
    return None if record is None else _make_run(folder, record)


def find_runs(
    roots: Iterable[Path], *, depth: int = 2, more: Iterable[Path] = (), limit: int | None = None
) -> list[Run]:
    """Return the runs at or below folders, newest first; folders that cannot be read are passed over.

    Args:
        roots: folders to look in; one may be a run itself.
        depth: how many levels below a root are searched.
        more: further folders, not searched below.
        limit: how many to return; the progress of others is not read.
    """
    found = find_records(roots, depth=depth, more=more)
    return [_make_run(folder, record) for folder, record in found[:limit]]


def find_records(
    roots: Iterable[Path], *, depth: int = 2, more: Iterable[Path] = ()
) -> list[tuple[Path, dict[str, Any]]]:
    """Return folder and record of the runs that `find_runs` would return, without reading their progress."""
    found: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for folder in (*_run_folders(roots, depth), *_run_folders(more, 0)):
        try:
            record = _describe(folder)
        except SidestepError:
            continue  # one damaged folder must not hide the others
        if record is not None:
            found.setdefault(folder.resolve(), (folder, {"name": folder.name, "created": 0.0, **record}))
    return sorted(found.values(), key=lambda run: (-run[1]["created"], run[1]["name"]))


def _run_folders(roots: Iterable[Path], depth: int) -> Iterator[Path]:
    level = list(roots)
    for _ in range(depth + 1):
        for folder in level:
            # Side-Step's checkpoints have a copy of the run's settings
            if folder.parent.name != CHECKPOINTS and any((folder / mark).is_file() for mark in _MARKS):
                yield folder
        level = [child for folder in level for child in _children(folder)]


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []  # what may not be read holds nothing to show


def _describe(folder: Path) -> dict[str, Any] | None:
    record = read_record(folder)
    return side_step.describe(folder) if record is None else record


def _make_run(folder: Path, record: Mapping[str, Any]) -> Run:
    lines = read_progress(progress_file(folder))
    seconds = seconds_of(lines)
    if not (folder / RECORD).is_file():
        record = {**record, **side_step.progress_facts(folder, lines)}
        seconds = side_step.seconds_of(lines)
    last = max((*of_kind(lines, "step"), *of_kind(lines, "epoch")), key=lambda line: line["step"], default={})
    best_loss, best_of = _best(lines)
    return Run(
        path=folder,
        name=record.get("name", folder.name),
        status=status_of(folder, record),
        created=record.get("created", 0.0),
        adapter_type=record.get("adapter_type", ""),
        variant=record.get("variant", ""),
        step=last.get("step", 0),
        total_steps=record.get("total_steps", 0),
        epoch=last.get("epoch", 0),
        epochs=record.get("epochs", 0),
        loss=number(last, "loss"),
        best_loss=best_loss,
        best_of=best_of,
        seconds=seconds,
        adapter=next(iter(find_adapters(folder)), None),
        error=record.get("error", ""),
        model=record.get("model", ""),
        settings=record.get("request", {}),
    )


def _best(lines: list[Line]) -> tuple[float | None, str]:
    for kind in ("validation", "epoch", "step"):
        losses = [loss for line in of_kind(lines, kind) if (loss := number(line, "loss")) is not None]
        if losses:
            return min(losses), kind
    return None, ""


def _adapter_folders(run: Path) -> Iterator[Path]:
    # of final and best, the one of a replacement that was interrupted between its two renames
    yield from (locate_folder(run / FINAL), locate_folder(run / BEST), run / side_step.EARLY_EXIT)
    saved = [(_SAVED_FOLDER.match(path.name), path) for path in (run / CHECKPOINTS).glob("*_*")]
    for _, folder in sorted(((int(match[1]), path) for match, path in saved if match), reverse=True):
        # ours keeps the adapter apart from what a resume needs, Side-Step's is all in one folder
        yield from (folder / "adapter",) if (folder / STATE).is_file() else (folder,)
    for kept in (MILESTONES, OVERTAKEN):
        yield from sorted((run / kept).glob("*"))
