"""Trigger tags of a folder of songs: whole tags, separated by commas in each sidecar's `custom_tag`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs

from sidestep_core.dataset import find_audio
from sidestep_core.differences import differing_lines
from sidestep_core.errors import DatasetError
from sidestep_core.sidecars import Sidecar, read_sidecar, render, sidecar_path, sidecar_text, write_sidecar
from sidestep_core.songs import TagPosition

TagOperation = Literal["add", "remove", "set", "clear"]


@attrs.frozen
class TagChange:
    """Tags of one sidecar before and after an edit, and the lines of the file that go (`-`) and come (`+`)."""

    path: Path
    before: tuple[str, ...]
    after: tuple[str, ...]
    lines: tuple[str, ...]


@attrs.frozen
class TaggedSong:
    """Tags of one song."""

    path: Path
    tags: tuple[str, ...]


def list_tags(root: Path) -> list[TaggedSong]:
    """Return every song in a folder and its subfolders with its tags, sorted by path.

    Raises:
        DatasetError: the folder or sidecars in it cannot be read.
    """
    return [TaggedSong(audio, tags_of(sidecar)) for audio, sidecar in _read_all(root)]


def edit_tags(
    root: Path,
    operation: TagOperation,
    tag: str = "",
    *,
    position: TagPosition = "prepend",
    dry_run: bool = False,
) -> list[TagChange]:
    """Change the tags of every song in a folder and its subfolders; return what changed, or would.

    Args:
        root: folder of songs.
        operation: "add" puts the tags where they are not yet, "remove" takes them away, "set" makes them the only
            ones and "clear" leaves none.
        tag: one tag, or several separated by commas; not used by "clear".
        position: where added tags go; "replace" makes them the only ones.
        dry_run: write nothing.

    Raises:
        DatasetError: no tag was given, or the folder or sidecars in it cannot be read; then nothing is changed.
    """
    given = split_tags(tag)
    if not given and operation != "clear":
        raise DatasetError(f"no tag to {operation}; give a text without commas, or several separated by commas")
    edits: dict[Path, tuple[Path, Sidecar, TagChange]] = {}
    for audio, sidecar in _read_all(root):
        path = sidecar_path(audio)  # song.wav and song.mp3 share one
        before = tags_of(sidecar)
        after = _edited(before, operation, given, position)
        if after != before:
            new = attrs.evolve(sidecar, custom_tag=", ".join(after), trigger="")
            lines = differing_lines(sidecar_text(audio) or "", render(new))
            edits[path] = (audio, new, TagChange(path, before, after, lines))
    if not dry_run:
        for audio, new, _ in edits.values():
            write_sidecar(audio, new)
    return [change for _, _, change in edits.values()]


def split_tags(text: str) -> tuple[str, ...]:
    """Return the tags in a comma-separated text, each once."""
    return tuple(dict.fromkeys(tag for part in text.split(",") if (tag := " ".join(part.split()))))


def tags_of(sidecar: Sidecar) -> tuple[str, ...]:
    """Return the tags that a sidecar gives its song."""
    return split_tags(sidecar.custom_tag or sidecar.trigger)


def _edited(
    before: tuple[str, ...], operation: TagOperation, given: tuple[str, ...], position: TagPosition
) -> tuple[str, ...]:
    if operation == "clear":
        return ()
    if operation == "set" or (operation == "add" and position == "replace"):
        return given
    if operation == "remove":
        return tuple(tag for tag in before if tag not in given)
    new = tuple(tag for tag in given if tag not in before)
    return (*new, *before) if position == "prepend" else (*before, *new)


def _read_all(root: Path) -> Iterator[tuple[Path, Sidecar]]:
    """Yield every song with its sidecar once all of them have been read."""
    read: list[tuple[Path, Sidecar]] = []
    broken: list[str] = []
    for audio in find_audio(root):
        try:
            read.append((audio, read_sidecar(audio) or Sidecar()))
        except DatasetError as error:
            broken.append(str(error))
    if broken:
        more = f"\n  and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise DatasetError("sidecars that cannot be read:\n  " + "\n  ".join(broken[:3]) + more)
    yield from read
