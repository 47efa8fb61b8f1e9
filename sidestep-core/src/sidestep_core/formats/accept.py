"""Whether an export target can hold an adapter, told from headers alone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from sidestep_core.errors import AdapterError, ExportError
from sidestep_core.formats.saved import SavedAdapter, read_adapter
from sidestep_core.specs import ExporterType


def refuse_early(path: Path, prefix: str, spec: ExporterType, called: str) -> None:
    """Refuse an adapter that an exporter cannot hold, before anything heavy is imported.

    A file that cannot be read passes: the exporter may know it, and else says what is wrong with it.

    Raises:
        ExportError: it cannot hold it; the message says what it can.
    """
    with contextlib.suppress(AdapterError):
        check_accepted(read_adapter(path, prefix), called, spec.accepts, spec.instead)


def check_accepted(saved: SavedAdapter, target: str, accepts: Collection[str], instead: str = "") -> None:
    """Refuse an adapter that a target cannot hold.

    Args:
        saved: the adapter.
        target: name of the target.
        accepts: kinds of updates (lora, dora, oft, lokr, loha, full) and words for whole formats that it holds.
        instead: what to do with others.

    Raises:
        ExportError: it cannot hold it; the message says what it can.
    """
    if saved.format in accepts:
        return
    kinds = sorted(_kinds(saved))
    if set(kinds) <= set(accepts):
        return
    what = ", ".join(kind for kind in kinds if kind not in accepts)
    raise ExportError(
        f"target {target!r} cannot hold {what} ({saved.weights}); it takes {', '.join(sorted(accepts))}"
        + (f"; {instead}" if instead else "")
    )


def _kinds(saved: SavedAdapter) -> Collection[str]:
    try:
        return saved.kinds()
    except AdapterError:
        # a format of somebody else's, which only an exporter that names it can read
        if saved.format == "unknown" or saved.format in ("peft", "pt", "lycoris"):
            raise
        return (saved.format,)
