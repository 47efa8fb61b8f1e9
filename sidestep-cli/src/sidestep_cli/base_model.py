"""Options that name the model of an adapter, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from sidestep_core.configs import ModelConfig
from sidestep_core.errors import AdapterError, CheckpointError, ConfigError
from sidestep_core.formats.owner import find_owner, owner_fault
from sidestep_core.formats.saved import read_adapter
from sidestep_core.model.layout import ModelFolder

from sidestep_cli.output import warn
from sidestep_cli.session import Session

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def model_options(command: Decorated) -> Decorated:
    """Give a command options for the model that an adapter belongs to."""
    click.option("-M", "--model", help="Model of the adapter; the one it was trained on when not given.")(command)
    click.option("-c", "--checkpoint-dir", type=click.Path(path_type=Path), help="Folder of the models.")(command)
    return command


def metadata_of(adapter: Path, prefix: str = "") -> Mapping[str, str]:
    """Return what an adapter says about itself; nothing where it cannot be read, which others report."""
    try:
        return read_adapter(adapter, prefix).metadata
    except AdapterError:
        return {}


def find_model(
    session: Session, metadata: Mapping[str, str], checkpoint_dir: Path | None, model: str | None
) -> ModelFolder | None:
    """Return the model of an adapter: the one that is named, else the one it was trained on.

    Without any option, no model is fine: only some work needs it.

    Raises:
        CheckpointError: a model or folder that is named is not there.
    """
    config = ModelConfig(checkpoint_dir=checkpoint_dir, model=model)
    asked = checkpoint_dir is not None or model is not None
    try:
        if model is None and (owner := find_owner(session.toolkit.models(checkpoint_dir), metadata)) is not None:
            return owner
        if not asked and metadata.get("base_identity"):
            return None
        found = session.toolkit.model(config)
    except CheckpointError:
        if asked:
            raise
        return None
    if fault := owner_fault(found, metadata):
        warn(fault)
    return found


def one_adapter(folder: Path | None, adapter_dir: Path | None, usage: str) -> Path:
    """Return the adapter that is named once, as an argument or by --adapter-dir.

    Raises:
        ConfigError: it is named twice or not at all.
    """
    adapter = folder or adapter_dir
    if adapter is None or (folder and adapter_dir):
        raise ConfigError(f"name one adapter: {usage}")
    return adapter
