"""Deleting what a run wrote, so that its only weights never go without being named, and nothing of others ever."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from sidestep_core import asking
from sidestep_core.errors import SidestepError
from sidestep_core.files import is_temporary
from sidestep_core.history import forget
from sidestep_core.locks import LOCK, LockHeld, take_lock
from sidestep_core.runs import (
    BEST,
    CHECKPOINTS,
    EVENTS,
    FINAL,
    MILESTONES,
    MISSING,
    OVERTAKEN,
    PREVIEWS,
    PROGRESS,
    RECORD,
    RUNNING,
    UNFINISHED,
    Run,
    find_adapters,
    holds_weights,
)

# runs that ended this way wrote their newest weights as an adapter; of others only a checkpoint has them
_EXPORTED = ("complete", "max-steps", "early-stop", "stopped")
# what a run writes, by folder: the weights last, so that a deletion that is interrupted leaves them
_CHECKPOINTS = ((CHECKPOINTS, "step_*"), (CHECKPOINTS, ".*.tmp"))
_REST = (
    (".", asking.FOLDER),
    (EVENTS, "events.out.tfevents.*"),
    (PREVIEWS, "step_*"),
    (PREVIEWS, "without_adapter"),
    (OVERTAKEN, "*_step_*"),
    (MILESTONES, "loss_*"),
    (".", BEST),
    (".", FINAL),
    (".", PROGRESS),
    (".", RECORD),
)


@attrs.frozen(kw_only=True)
class Removal:
    """What a deletion comes to.

    Attributes:
        run: the run folder.
        paths: files and folders that go, in this order.
        lost: adapters that are gone for good then.
        kept: adapters that stay.
        bytes: how much space it frees.
        whole: whether the run itself goes.
    """

    run: Path
    paths: tuple[Path, ...]
    lost: tuple[Path, ...]
    kept: tuple[Path, ...]
    bytes: int
    whole: bool


def plan_removal(run: Run, *, with_weights: bool = False) -> Removal:
    """Work out what can go of a run.

    That is its checkpoints, where the run ended with an adapter or kept its best; or all of it, where it has no weights
    or they are to go, too.

    Raises:
        SidestepError: the run goes on, its only weights would go, or it is not one of ours.
    """
    _refuse_others(run)
    whole = with_weights or not _has_weights(run.path)
    kept = () if whole else tuple(path for path in (run.path / FINAL, run.path / BEST) if holds_weights(path))
    if not whole and (not kept or run.status not in _EXPORTED):
        raise SidestepError(
            f"the {'newest' if kept else 'only'} weights of run '{run.path}' ({run.status}) are in "
            f"'{_newest_weights(run.path)}', and nothing was deleted; go on with the run to get an adapter, or delete "
            "all of it with --with-weights"
        )
    paths = tuple(_written(run.path, (*_CHECKPOINTS, *(_REST if whole else ()))))
    return Removal(
        run=run.path,
        paths=paths,
        lost=tuple(find_adapters(run.path)) if whole else (),
        kept=kept,
        bytes=sum(_size(path) for path in paths),
        whole=whole,
    )


def remove(removal: Removal) -> bool:
    """Delete it; return whether the run folder is gone, too, which it is unless there is something of others in it.

    Raises:
        SidestepError: the run was resumed in the meantime.
    """
    try:
        lock = take_lock(removal.run)
    except LockHeld as error:
        raise SidestepError(f"run '{removal.run}' goes on again; nothing was deleted") from error
    for path in removal.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if lock is not None:
        lock.release()
    if removal.whole:
        (removal.run / LOCK).unlink(missing_ok=True)
        forget(removal.run)
    for folder in (CHECKPOINTS, EVENTS, PREVIEWS, OVERTAKEN, MILESTONES, *((".",) if removal.whole else ())):
        with contextlib.suppress(OSError):  # not there, or not empty
            (removal.run / folder).rmdir()
    return not removal.run.exists()


def _refuse_others(run: Run) -> None:
    if run.status == MISSING:
        raise SidestepError(f"the folder '{run.path}' is gone; 'sidestep history forget' takes the run off the list")
    if not (run.path / RECORD).is_file():
        raise SidestepError(f"'{run.path}' was not written by sidestep, which deletes only what it wrote")
    if run.status == RUNNING:
        raise SidestepError(f"run '{run.path}' is running; stop it first")
    if run.status == UNFINISHED:
        raise SidestepError(
            f"whether run '{run.path}' is running cannot be told on this file system; delete it by hand"
        )


def _has_weights(run: Path) -> bool:
    """Tell whether there is anything where a run puts weights; files of any name count, for any adapter type."""
    folders = (run / name for name in (CHECKPOINTS, OVERTAKEN, MILESTONES, BEST, FINAL))
    return any(path.is_file() and path.stat().st_size for folder in folders for path in folder.rglob("*"))


def _newest_weights(run: Path) -> Path:
    saved = sorted((run / CHECKPOINTS).glob("step_*"), key=lambda path: path.stat().st_mtime)
    return saved[-1] if saved else next(iter(find_adapters(run)), run)


def _written(run: Path, patterns: Iterable[tuple[str, str]]) -> Iterator[Path]:
    for folder, pattern in patterns:
        yield from sorted(path for path in (run / folder).glob(pattern) if ".tmp" not in pattern or is_temporary(path))


def _size(path: Path) -> int:
    """Return the bytes that go with a path; what it links to stays."""
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
