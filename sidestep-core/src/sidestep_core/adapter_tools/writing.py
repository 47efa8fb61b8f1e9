"""A plain LoRA that was made here, written as a PEFT folder and read back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from sidestep_core.adapter_tools.combine import PlainLora
from sidestep_core.errors import AdapterError, ProofError
from sidestep_core.files import place_files
from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.reading import read_updates
from sidestep_core.formats.saved import read_adapter
from sidestep_core.formats.updates import LowRank, Update


def write_plain_lora(made: PlainLora, folder: Path) -> None:
    """Write the folder that `sidestep train` would write for a LoRA of these weights.

    Raises:
        AdapterError: something is there already.
        ProofError: it does not read back as it was written; nothing is left.
    """
    if folder.exists():
        raise AdapterError(f"{folder} is there already; give another --output")
    metadata = dict(made.metadata)
    if any(made.losses.values()):
        metadata["approximation_error"] = json.dumps({name: float(f"{v:.3g}") for name, v in made.losses.items()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adapter-", dir=folder.parent) as temporary:
        aside = Path(temporary) / "new"
        aside.mkdir()
        for name, content in peft_files(made.updates, metadata).items():
            (aside / name).write_bytes(content)
        found = list(read_updates(read_adapter(aside)))
        if not all(a.equal(b) for a, b in zip(_tensors(found), _tensors(made.updates), strict=True)):
            raise ProofError(f"what was written for {folder} does not read back as it should")
        place_files(aside, folder)


def _tensors(updates: Iterator[Update] | list[Update] | tuple[LowRank, ...]) -> Iterator[Tensor]:
    for update in updates:
        assert isinstance(update, LowRank)
        yield from (update.down, update.folded().up)
