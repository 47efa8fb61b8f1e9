"""Which runs there are, wherever they were written: a small file for each in the user's data folder.

One file a run, named by the hash of its folder and written whole, so that runs that begin at the same time lose nothing
of each other's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.errors import AmbiguousName, UnknownName
from sidestep_core.files import hash_text, write_atomic
from sidestep_core.runs import MISSING, RECORD, Run, find_records, find_runs, read_run
from sidestep_core.settings import DATA_VARIABLE, data_folder

FORMAT = 1
FOLDER = "runs"


@attrs.frozen(kw_only=True)
class Entry:
    """A run that was begun once.

    Attributes:
        path: its folder, absolute.
        name: its name then.
        created: seconds since 1970.
        adapter_type: lora, ...
        variant: base, sft, turbo, ...
    """

    path: Path
    name: str
    created: float
    adapter_type: str
    variant: str

    @property
    def is_gone(self) -> bool:
        """Whether there is no run in its folder any more."""
        return not (self.path / RECORD).is_file()

    def as_missing(self) -> Run:
        """Return what is known of a run whose folder is gone."""
        return Run(
            path=self.path,
            name=self.name,
            status=MISSING,
            created=self.created,
            adapter_type=self.adapter_type,
            variant=self.variant,
        )


def enter(run: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Note that there is a run; yield a line for the user if that cannot be written, which is no reason to stop.

    Args:
        run: its folder.
        record: what its `run.json` says.
    """
    path = run.resolve()
    known = {key: record[key] for key in ("name", "created", "adapter_type", "variant")}
    file = _file(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps({"format": FORMAT, "path": str(path), **known}) + "\n")
    except OSError as error:
        yield (
            f"'{file.parent}' cannot be written ({error.strerror}): 'sidestep history' will find this run only by its "
            f"folder; {DATA_VARIABLE} names another place"
        )


def entries() -> list[Entry]:
    """Return every run that was begun and not forgotten; files that cannot be read are passed over."""
    files = sorted((data_folder() / FOLDER).glob("*.json"))
    return [entry for file in files if (entry := _read(file)) is not None]


def forget(run: Path) -> bool:
    """Remove a run from the history and leave its folder as it is; return whether it was there."""
    file = _file(run.resolve())
    there = file.is_file()
    file.unlink(missing_ok=True)
    return there


def known_runs(folders: Iterable[Path] = (), *, limit: int | None = None) -> list[Run]:
    """Return the runs of the history and those at or below some folders, newest first.

    Args:
        folders: where to look besides.
        limit: how many to return; the progress of others is not read.
    """
    noted = entries()
    found = find_runs(folders, more=[entry.path for entry in noted if not entry.is_gone], limit=limit)
    gone = [entry.as_missing() for entry in noted if entry.is_gone]
    return sorted([*found, *gone], key=lambda run: (-run.created, run.name))[:limit]


def find_run(named: str, folders: Iterable[Path] = ()) -> Run:
    """Return the run of a folder, or the one in the history or some folders that has a name, or begins with it.

    Raises:
        UnknownName: there is none.
        AmbiguousName: there are several.
    """
    if (run := read_run(Path(named))) is not None:
        return run
    noted = entries()
    records = find_records(folders, more=[entry.path for entry in noted if not entry.is_gone])
    known = {folder: record["name"] for folder, record in records}
    known |= {entry.path: entry.name for entry in noted if entry.is_gone}
    exact = [path for path, name in known.items() if named in (name, path.name)]
    begun = [path for path, name in known.items() if name.startswith(named) or path.name.startswith(named)]
    matches = exact or begun
    if not matches:
        raise UnknownName(f"no run {named!r}; give its folder, or a name that 'sidestep history' lists")
    if len(matches) > 1:
        listed = ", ".join(f"'{path}'" for path in sorted(matches))
        raise AmbiguousName(f"{named!r} may be any of {len(matches)} runs; give the folder of one: {listed}")
    gone = (entry.as_missing() for entry in noted if entry.path == matches[0])
    return read_run(matches[0]) or next(gone)


def _read(file: Path) -> Entry | None:
    try:
        entry = json.loads(file.read_bytes())
        path, created = Path(entry["path"]), float(entry["created"])
        texts = {key: str(entry[key]) for key in ("name", "adapter_type", "variant")}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return Entry(path=path, created=created, **texts)


def _file(resolved: Path) -> Path:
    return data_folder() / FOLDER / f"{hash_text(str(resolved))}.json"
