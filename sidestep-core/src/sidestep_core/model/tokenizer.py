"""The tokenizer that belongs to a model, without the model."""

from __future__ import annotations

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sidestep_core.errors import CheckpointError
from sidestep_core.model.folder import ModelFolder


def load_tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model's text encoder.

    Raises:
        CheckpointError: it is missing or cannot be loaded.
    """
    path = folder.tokenizer
    if not path.is_dir():
        raise CheckpointError(f"no tokenizer in {path.parent}: the folder {path.name!r} is missing")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"the tokenizer in {path} cannot be loaded: {reason}") from error
