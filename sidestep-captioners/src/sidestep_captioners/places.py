"""Where the files of models are: sidestep's own folder, the hub's cache, and the hub itself when that is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidestep_core.errors import CheckpointError
from sidestep_core.settings import data_folder

HUB = "https://huggingface.co/"


def own_folder(name: str) -> Path:
    """Return the folder of a model's files; it need not exist."""
    return data_folder() / "models" / name


def hub_folder(repository: str, patterns: Sequence[str], *, download: bool) -> Path | None:
    """Return the folder of the hub's cache, filled if that is allowed; None if it is not there.

    Raises:
        CheckpointError: it cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns), local_files_only=not download))
    except Exception as error:  # the hub's errors and those of its HTTP library have no common base
        if not download:
            return None
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{repository} cannot be fetched: {reason}") from error
