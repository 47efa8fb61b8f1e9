"""Checkpoints: everything a run needs to go on as if it had never stopped, as safetensors and JSON.

`checkpoints/step_N/{adapter.safetensors, average.safetensors, optimizer.safetensors, state.json, adapter/, best/}`; the
average is there if one is kept. `adapter/` is what the run would give away if it ended there, in the files that other
programs load, and `best/` the run's best adapter so far, if it keeps one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sidestep_core.errors import ResumeError
from sidestep_core.files import atomic_folder, copy_folder, is_temporary
from sidestep_core.runs import BEST, CHECKPOINTS, STATE, checkpoints

FORMAT = 1
ADAPTER = "adapter.safetensors"
AVERAGE = "average.safetensors"
OPTIMIZER = "optimizer.safetensors"


@attrs.frozen(kw_only=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        step: optimizer steps done.
        adapter: the adapter's training state.
        average: averaged weights, None if no average is kept.
        optimizer: the optimizer's `state_dict`.
        state: plain values: fingerprint, controllers, sampler, loss means, scaler, what was kept.
        best: folder of the best adapter so far, None if there is none.
    """

    step: int
    adapter: Mapping[str, Tensor]
    average: Mapping[str, Tensor] | None = None
    optimizer: Mapping[str, Any]
    state: Mapping[str, Any]
    best: Path | None = None


def save_checkpoint(run: Path, checkpoint: Checkpoint, export: Callable[[Path], None]) -> Path:
    """Write a checkpoint folder: whole or, if anything fails, not at all.

    Args:
        run: the run folder.
        checkpoint: what to write.
        export: writes the adapter to a folder in the files that other programs load.
    """
    folder = run / CHECKPOINTS / f"step_{checkpoint.step}"
    tensors, plain = split_optimizer(checkpoint.optimizer)
    kept = {"step": checkpoint.step, "averaged": checkpoint.average is not None, "optimizer": plain}
    state = {"format": FORMAT, **kept, **checkpoint.state}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as new:
        save_file(_saveable(checkpoint.adapter), new / ADAPTER)
        save_file(_saveable(tensors), new / OPTIMIZER)
        if checkpoint.average is not None:
            save_file(_saveable(checkpoint.average), new / AVERAGE)
        export(new / "adapter")
        if checkpoint.best is not None:
            copy_folder(checkpoint.best, new / BEST)
        (new / STATE).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        ResumeError: a file is missing or damaged, or the format is unknown.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state.pop("format") != FORMAT:
            raise ResumeError(f"checkpoint '{folder}' was written by another version of sidestep; resume with that one")
        return Checkpoint(
            step=state.pop("step"),
            adapter=load_file(folder / ADAPTER),
            average=load_file(folder / AVERAGE) if state.pop("averaged") else None,
            optimizer=join_optimizer(load_file(folder / OPTIMIZER), state.pop("optimizer")),
            state=state,
            best=folder / BEST if (folder / BEST).is_dir() else None,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ResumeError(f"checkpoint '{folder}' is damaged ({error}); resume from an earlier one") from error


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what an interrupted save left; 0 keeps all."""
    for path in (run / CHECKPOINTS).iterdir():
        if is_temporary(path):
            shutil.rmtree(path)
    if keep:
        for _, path in checkpoints(run)[:-keep]:
            shutil.rmtree(path)


def split_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's state as tensors by name and plain values that JSON can hold."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            place: dict[str, Any] = tensors if isinstance(value, Tensor) else plain
            place[f"{index}.{name}"] = value
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def join_optimizer(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `state_dict` that `split_optimizer` took apart."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **plain["state"]}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in plain["param_groups"]]
    return {"state": dict(sorted(state.items())), "param_groups": groups}


def _saveable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory or have gaps
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
