"""What is wrong with the sound of songs: files that cannot be read, silence, clipping, repeated songs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sidestep_core.audio.decode import SILENT
from sidestep_core.doctor.duplicates import Match, find_matches
from sidestep_core.doctor.listen import Heard
from sidestep_core.doctor.report import Finding, clock
from sidestep_core.errors import AudioError
from sidestep_core.songs import Song

_CLIPPED_A_SECOND = 0.1  # cut peaks that loud music may have without harm
_QUIET = 0.5
_WHOLE = 0.95


def sound_findings(song: Song, outcome: Heard | AudioError) -> Iterator[Finding]:
    """Yield what is wrong with the sound of one song."""
    if isinstance(outcome, AudioError):
        yield Finding(song=song.name, kind="unreadable", reason=str(outcome), dropped=True)
    elif outcome.silent:
        yield Finding(song=song.name, kind="silent", reason=SILENT.removeprefix("silent: "), dropped=True)
    else:
        if outcome.clipped > max(2, _CLIPPED_A_SECOND * outcome.seconds):
            level = 20 * math.log10(outcome.peak)
            reason = (
                f"{outcome.clipped:,} peaks are cut flat or lie beyond full scale; the highest is {level:+.1f} dBFS"
            )
            yield Finding(song=song.name, kind="clipped", reason=reason)
        if outcome.quiet > _QUIET:
            reason = f"{outcome.quiet:.0%} of it stays below -60 dBFS"
            yield Finding(song=song.name, kind="quiet", reason=reason)


def duplicate_findings(songs: Sequence[tuple[Song, Heard]]) -> Iterator[Finding]:
    """Yield one finding for each song that is there before: the same samples, or the same by ear."""
    by_content: dict[str, int] = {}
    for number, (song, heard) in enumerate(songs):
        first = by_content.setdefault(heard.content, number)
        if first != number:
            reason = f"the same samples as '{songs[first][0].name}'"
            yield Finding(song=song.name, kind="duplicate", reason=reason)
    different = [songs[number] for number in by_content.values()]
    told: set[int] = set()
    for match in find_matches([heard.fingerprint for _, heard in different]):
        if match.song not in told:
            told.add(match.song)
            reason = _relation(match, different[match.of][0].name)
            yield Finding(song=different[match.song][0].name, kind="duplicate", reason=reason)


def _relation(match: Match, other: str) -> str:
    alike = f"{1 - match.differing:.0%} of the fingerprint agrees"
    if match.overlap >= _WHOLE:
        return f"the same recording as '{other}' ({alike})"
    if match.inside:
        return f"a part of '{other}', from {clock(match.start)} ({alike})"
    return f"'{other}' is a part of it, from {clock(match.start)} ({alike})"
