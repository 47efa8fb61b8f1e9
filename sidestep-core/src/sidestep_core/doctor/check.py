"""The data doctor's round: listen to every song, read what is said about it, compare songs with each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from sidestep_core.audio.workers import in_processes
from sidestep_core.configs import CheckConfig
from sidestep_core.dataset import find_songs
from sidestep_core.doctor.listen import Heard, Listening, listen
from sidestep_core.doctor.report import KINDS, CheckedSong, DatasetChecked, Finding, Kind
from sidestep_core.doctor.sounds import duplicate_findings, sound_findings
from sidestep_core.doctor.texts import Count, Reader
from sidestep_core.errors import AudioError, Cancelled
from sidestep_core.events import Event, SongFinished, StageStarted
from sidestep_core.languages import load_guesser
from sidestep_core.prompts import lyrics_prompt, text_prompt, wordings
from sidestep_core.songs import Song, SongSet

Outcomes = Mapping[str, Heard | AudioError]
NOT_GUESSED = "languages were not guessed: that needs py3langid; pip install 'sidestep-core[language]'"


def check(config: CheckConfig, *, count: Count | None, cancelled: Callable[[], bool]) -> Iterator[Event]:
    """Look for all that is wrong with a set of songs; nothing is written.

    A file that cannot be read costs itself alone. What is kept of a song is its fingerprint, 4 kB a minute. Listening
    starts processes anew: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        config: which songs, and how they are described.
        count: counts the tokens of a text; None estimates them.
        cancelled: asked between songs; True stops.

    Yields:
        The stage, each song that was heard, and at the end `DatasetChecked`.

    Raises:
        ConfigError: no songs are named.
        DatasetError: there is no song.
        Cancelled: the user asked to stop.
    """
    songs = find_songs(config)
    heard: dict[str, Heard | AudioError] = {}
    yield StageStarted(stage="listen", total=len(songs.songs))
    for song, outcome in _listen_to(songs.songs, config):
        if cancelled():
            raise Cancelled("the check was stopped")
        heard[song.name] = outcome
        seconds = 0.0 if isinstance(outcome, AudioError) else outcome.seconds
        yield SongFinished(stage="listen", name=song.name, audio_seconds=seconds)
    yield _examine(songs, heard, config, count)


def _listen_to(songs: Sequence[Song], config: CheckConfig) -> Iterator[tuple[Song, Heard | AudioError]]:
    by_path = {song.path: song for song in songs}
    tasks = [Listening(path, config.max_duration) for path in by_path]
    for task, outcome in in_processes(listen, tasks, workers=config.workers or os.cpu_count() or 1):
        yield by_path[task.path], outcome


def _examine(songs: SongSet, heard: Outcomes, config: CheckConfig, count: Count | None) -> DatasetChecked:
    findings = list(_problems(songs))
    for song in songs.songs:
        findings += sound_findings(song, heard[song.name])
    usable = [
        (song, outcome) for song in songs.songs if isinstance(outcome := heard[song.name], Heard) and not outcome.silent
    ]
    findings += duplicate_findings(usable)
    told, notes = _tell(songs, dict((song.name, outcome.seconds) for song, outcome in usable), config)
    reader = Reader(conditioning=config.conditioning, count=count)
    for song, _ in usable:
        findings += reader.findings(song, told[song.name])
    order = {song.name: number for number, song in enumerate(songs.songs)}
    findings.sort(key=lambda finding: (order.get(finding.song, -1), KINDS.index(finding.kind)))
    return DatasetChecked(songs=tuple(told.values()), findings=tuple(findings), notes=notes)


def _problems(songs: SongSet) -> Iterator[Finding]:
    names = {song.path: song.name for song in songs.songs}
    for problem in songs.problems:
        name = names.get(problem.path, problem.path.name.encode("utf-8", "replace").decode())
        kind: Kind = "unreadable" if problem.lost else "sidecar"
        yield Finding(song=name, kind=kind, reason=problem.reason, dropped=True)


def _tell(
    songs: SongSet, seconds: Mapping[str, float], config: CheckConfig
) -> tuple[dict[str, CheckedSong], tuple[str, ...]]:
    """Return what the model is told of each song that can be used, and what could not be looked at."""
    guess = load_guesser()
    told = {
        song.name: CheckedSong(
            name=song.name,
            seconds=seconds[song.name],
            prompt=text_prompt(
                song,
                seconds=int(seconds[song.name]),
                tag=wording.tag,
                tag_position=wording.tag_position,
                use_genre=wording.use_genre,
            ),
            lyrics=lyrics_prompt(song, config.conditioning),
            language="" if song.instrumental or guess is None else guess(song.lyrics),
        )
        for song, wording in zip(songs.songs, wordings(songs, config), strict=True)
        if song.name in seconds
    }
    return told, (NOT_GUESSED,) if guess is None else ()
