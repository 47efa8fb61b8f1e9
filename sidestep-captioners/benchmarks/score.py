"""Print how often an analyser is right on songs that `render.py` made, as a table in Markdown.

    python score.py FOLDER... [--analyzer NAME] [--wrong]

Tempo is right within 4 %; "octave" accepts half, double, third and triple, too. "of high" is how many of the values
with high confidence are right, and behind it how many values have that confidence. `--wrong` lists what is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from known_songs.truth import Song, key_credit, read_songs, same_tempo, same_tempo_or_octave
from sidestep_core.configs import MeasureConfig
from sidestep_core.events import SongMeasured
from sidestep_core.interfaces import Measured
from sidestep_core.requests import Choice
from sidestep_core.toolkit import Toolkit

FIELDS = {"bpm": "tempo", "key": "key", "signature": "metre"}
HEADINGS = ("set", "songs", "tempo", "octave", "key", "key MIREX", "metre", *(f"{n} of high" for n in FIELDS.values()))
NOTHING = Measured(value="", confidence="low", probability=0.0)


@attrs.frozen
class Answer:
    """A song and what was measured of it."""

    song: Song
    found: Mapping[str, Measured]

    def says(self, field: str) -> Measured:
        """Return what was measured of a field; an empty value where nothing was."""
        return self.found.get(field, NOTHING)

    def is_right(self, field: str) -> bool:
        """Tell whether a field is right."""
        value = self.says(field).value
        if field == "bpm":
            return same_tempo(float(value or 0), self.song.bpm)
        return value == getattr(self.song, field)

    @property
    def mirex(self) -> float:
        """MIREX's credit for the key."""
        return key_credit(self.says("key").value, self.song.key) if self.says("key").value else 0.0


def answers(folder: Path, analyzer: str) -> Iterator[Answer]:
    """Measure the songs of a folder, several at a time."""
    songs = {song.path.name: song for song in read_songs(folder)}
    config = MeasureConfig(input=folder, policy="overwrite_all", dry_run=True)
    for event in Toolkit.discover().measure(config, Choice(name=analyzer)):
        if isinstance(event, SongMeasured):
            yield Answer(songs[event.name], event.found)


def row(name: str, found: Sequence[Answer]) -> list[str]:
    """Return the cells of a table's row, in per cent."""
    octave = [same_tempo_or_octave(float(a.says("bpm").value or 0), a.song.bpm) for a in found]
    right = {field: [a.is_right(field) for a in found] for field in FIELDS}
    means = (right["bpm"], octave, right["key"], [a.mirex for a in found], right["signature"])
    shares = [f"{100 * sum(mean) / len(mean):.1f}" for mean in means]
    return [name, str(len(found)), *shares, *(_of_high(found, field) for field in FIELDS)]


def _of_high(found: Sequence[Answer], field: str) -> str:
    high = [a.is_right(field) for a in found if a.says(field).confidence == "high"]
    return f"{100 * sum(high) / len(high):.1f} ({len(high)})" if high else "-"


def line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="sets made by render.py")
    parser.add_argument("--analyzer", default="signal", help="analyser to score")
    parser.add_argument("--wrong", action="store_true", help="list what is wrong")
    args = parser.parse_args()
    everything = {folder.name: list(answers(folder, args.analyzer)) for folder in args.folders}
    print(line(HEADINGS), line(["---"] * len(HEADINGS)), sep="\n")
    for name, found in everything.items():
        print(line(row(name, found)), flush=True)
    if len(everything) > 1:
        print(line(row("all", [answer for found in everything.values() for answer in found])))
    if args.wrong:
        for answer in (answer for found in everything.values() for answer in found):
            wrong = [
                f"{answer.says(f).value} ({answer.says(f).probability:.2f})" for f in FIELDS if not answer.is_right(f)
            ]
            if wrong:
                print(f"{answer.song.path.name} {answer.song.key}, drums '{answer.song.drums}': {', '.join(wrong)}")


if __name__ == "__main__":
    main()
