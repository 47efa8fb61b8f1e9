"""Sidecars out of what other programs wrote: first a plan, then the writing, so that a plan can be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from sidestep_core.dataset import walk_audio
from sidestep_core.differences import differing_lines
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.layouts.beside import PlainText, found_beside
from sidestep_core.layouts.found import Found, combine
from sidestep_core.layouts.tables import read_table, shared_settings
from sidestep_core.sidecars import Sidecar, render, sidecar_path, sidecar_text, write_sidecar
from sidestep_core.songs import Problem

TABLES = (".json", ".csv")


@attrs.frozen(kw_only=True)
class Conversion:
    """What becomes of one sidecar.

    Attributes:
        audio: the song.
        path: the sidecar.
        sources: files whose words are in it.
        sidecar: what it will say.
        lines: its lines that go (`-`) and come (`+`).
    """

    audio: Path
    path: Path
    sources: tuple[Path, ...]
    sidecar: Sidecar
    lines: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ConversionPlan:
    """What converting would do.

    Attributes:
        changes: sidecars to write, in the order of the songs.
        complete: how many sidecars say already all that was found.
        notes: what differs between files or means nothing; nothing is lost by it.
        problems: what cannot be converted, and stays as it is.
        settings: what the source says about all songs, as options of `sidestep preprocess`; "" for nothing.
    """

    changes: tuple[Conversion, ...]
    complete: int
    notes: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    settings: str = ""


@attrs.frozen(kw_only=True)
class _Described:
    """A song and what is found about it; what is in its own files first."""

    audio: Path
    beside: Sequence[Found]
    listed: Sequence[Found] = ()


def plan_conversion(
    source: Path, *, audio_dir: Path | None = None, plain: PlainText | None = None, overwrite: bool = False
) -> ConversionPlan:
    """Find out which sidecars would be written, and write none.

    A sidecar that is there stays as it is where it says something; what it leaves empty is filled. No file but
    sidecars is ever changed, and of those one backup is kept.

    Args:
        source: a folder, whose songs have files of other programs beside them; a dataset file; or a table.
        audio_dir: where the songs of a dataset file or table are looked for first.
        plain: what a `<stem>.txt` without keys or tags is; None asks for it where the text does not tell.
        overwrite: let what was found win over what a sidecar says.

    Raises:
        DatasetError: the source cannot be read or has another shape.
        ConfigError: the settings do not fit the source.
    """
    if source.is_dir() and audio_dir is not None:
        raise ConfigError("--audio-dir is for dataset files and tables: the songs of a folder are in it")
    if not source.is_dir() and source.suffix.lower() not in TABLES:
        raise DatasetError(f"'{source}' is no folder, no dataset file (.json) and no table (.csv)")
    if audio_dir is not None and not audio_dir.is_dir():
        raise DatasetError(f"no folder '{audio_dir}'")
    found = _in_folder(source, plain) if source.is_dir() else _in_table(source, audio_dir, plain)
    plan = _plan(list(found), overwrite)
    return plan if source.is_dir() else attrs.evolve(plan, settings=shared_settings(source))


def write_conversion(plan: ConversionPlan) -> None:
    """Write the sidecars of a plan; each is whole or as it was."""
    for change in plan.changes:
        write_sidecar(change.audio, change.sidecar)


def _in_folder(root: Path, plain: PlainText | None) -> Iterator[_Described | Problem]:
    seen: set[Path] = set()
    for audio, names in sorted(walk_audio(root), key=lambda found: found[0]):
        if (path := sidecar_path(audio)) in seen:  # song.wav and song.mp3 share one
            continue
        seen.add(path)
        try:
            yield _Described(audio=audio, beside=found_beside(audio, names, plain))
        except DatasetError as error:
            yield Problem(audio, str(error), lost=True)


def _in_table(table: Path, audio_dir: Path | None, plain: PlainText | None) -> Iterator[_Described | Problem]:
    folders = [table.parent] if audio_dir is None else [audio_dir, table.parent]
    listed: dict[Path, tuple[Path, list[Found]]] = {}
    for entry in read_table(table, folders):
        if isinstance(entry, Problem):
            yield entry
        else:
            audio, found = entry
            listed.setdefault(sidecar_path(audio), (audio, []))[1].append(found)
    names: dict[Path, frozenset[str]] = {}
    for audio, of_song in listed.values():
        if audio.parent not in names:
            names[audio.parent] = frozenset(path.name for path in audio.parent.iterdir())
        try:
            yield _Described(audio=audio, beside=found_beside(audio, names[audio.parent], plain), listed=of_song)
        except DatasetError as error:
            yield Problem(audio, str(error), lost=True)


def _plan(described: Sequence[_Described | Problem], overwrite: bool) -> ConversionPlan:
    changes: list[Conversion] = []
    notes: list[Problem] = []
    complete = 0
    for song in described:
        if isinstance(song, Problem) or not (song.beside or song.listed):
            continue
        path = sidecar_path(song.audio)
        own = [found for found in song.beside if found.source == path]
        others = [*(found for found in song.beside if found.source != path), *song.listed]
        sidecar, doubts = combine([*others, *own] if overwrite else [*own, *others])
        notes += [Problem(song.audio, doubt) for doubt in doubts]
        before = sidecar_text(song.audio) or ""
        if own and own[0].sidecar == sidecar and own[0].keyed:
            complete += 1
            continue
        lines = differing_lines(before, render(sidecar))
        sources = tuple(dict.fromkeys(found.source for found in [*own, *others]))
        changes.append(Conversion(audio=song.audio, path=path, sources=sources, sidecar=sidecar, lines=lines))
    problems = tuple(song for song in described if isinstance(song, Problem))
    return ConversionPlan(changes=tuple(changes), complete=complete, notes=tuple(notes), problems=problems)
