"""What every target shares: open the adapter, write aside, let a reader prove it, move it to its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import attrs
from sidestep_core.errors import ExportError
from sidestep_core.files import place_files
from sidestep_core.formats.accept import check_accepted
from sidestep_core.formats.saved import WEIGHTS_NAME
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.tensor_files import Planned, write_planned

from sidestep_exporters.source import Source, open_source


@attrs.frozen(kw_only=True)
class Tensors:
    """A safetensors file that is written one tensor after the other."""

    tensors: Mapping[str, Planned]
    metadata: Mapping[str, str]


_COARSE = 0.02
# names that say that the folder around a file is the adapter
_OWN_FILES = (WEIGHTS_NAME, "lokr_weights.safetensors", "loha_weights.safetensors")
Content = bytes | Tensors | Path  # bytes, tensors, or a file to be copied


@attrs.frozen(kw_only=True)
class Made:
    """What a target makes of an adapter.

    Attributes:
        files: what is to be written, by name below the output folder.
        prove: lets a reader read a folder of these files and returns the largest relative difference.
        reader: what that is called ("peft 0.21.2").
        losses: relative error of each module that is approximated.
        notes: lines a user should know.
    """

    files: Mapping[str, Content]
    prove: Callable[[Path], float]
    reader: str
    losses: Mapping[str, float] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()


class Target(Protocol):
    """What distinguishes one target from another.

    Attributes:
        name: what it is called.
        accepts: kinds of updates that it holds.
        instead: what to do with others.
        beside: whether its one file lies beside the adapter unless told otherwise, not in a folder of its own.
    """

    name: str
    accepts: frozenset[str]
    instead: str
    beside: bool

    def file(self, source: Source, adapter: str) -> str:
        """Return the name of the one file that is written for an adapter of a name, or "" for a folder."""

    def make(self, source: Source, file: str) -> Made:
        """Return what is to be written; `file` is the name of the one file, as the user may have chosen it."""


def export(target: Target, request: ExportRequest) -> ExportReport:
    """Write an adapter for a target.

    Raises:
        AdapterError: the adapter's files are damaged, or it does not fit the model.
        ExportError: the target cannot hold it, or the output cannot be written.
        ProofError: it does not read back as trained; no file is left.
    """
    source = open_source(request)
    check_accepted(source.saved, target.name, target.accepts, target.instead)
    folder, file = _place(request, target, source)
    made = target.make(source, file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    error = None
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        aside = Path(temporary) / "new"
        write_files(made.files, aside)
        if request.verify:
            error = made.prove(aside)
        place_files(aside, folder)
    return ExportReport(
        paths=(folder / file if file else folder,),
        modules=len(source.parts),
        error=error,
        reader=made.reader if request.verify else "",
        notes=(*made.notes, *_coarse(error)),
        losses=made.losses,
    )


def _coarse(error: float | None) -> tuple[str, ...]:
    if error is None or error < _COARSE:
        return ()
    return (f"rounding moves an update by up to {error:.0%} of its largest value; --dtype fp32 keeps it",)


def _place(request: ExportRequest, target: Target, source: Source) -> tuple[Path, str]:
    """Return folder and file to write: what was asked for, or `<adapter>-<target>` beside the adapter.

    Raises:
        ExportError: it is the adapter itself, lies inside it, or is a file where a folder is written.
    """
    given = request.adapter.resolve()
    own = given if given.is_dir() else given.parent if given.name in _OWN_FILES else None
    home = own or given.with_suffix("")
    file = target.file(source, home.name)
    output = request.output or home.with_name(file if target.beside else f"{home.name}-{target.name}")
    folder, file = (output.parent, output.name) if file and output.suffix == ".safetensors" else (output, file)
    taken = folder.resolve()
    if (own and own in (taken, *taken.parents)) or (taken / file) == given:
        raise ExportError(f"{output} lies in the adapter's own folder; give another --output")
    if folder.is_file():
        raise ExportError(f"{folder} is a file; give a folder as --output")
    return folder, file


def write_files(files: Mapping[str, Content], folder: Path) -> None:
    """Write files into a folder that nobody reads yet."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Tensors):
            write_planned(path, content.tensors, content.metadata)
        elif isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content)
