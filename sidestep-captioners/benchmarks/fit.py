"""Find the weights of measures from songs that `render.py` made, and write them into the package.

    python fit.py FOLDER... [--check]

Each song gives many readings (a tempo and a metre, or a key), of which one or a few are right; the weights are those
under which the right ones are likeliest, with a penalty on large ones. `--check` writes nothing: it leaves an eighth of
the styles out in turn and prints how often their songs are read rightly with weights from the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import sidestep_captioners.analysis
from known_songs.truth import Song, read_songs, same_tempo
from numpy.typing import NDArray
from scipy.optimize import minimize
from sidestep_captioners.analysis.judgement import probabilities
from sidestep_captioners.analysis.keys import key_readings
from sidestep_captioners.analysis.onsets import mono, onset_bands
from sidestep_captioners.analysis.pitches import find_pitches
from sidestep_captioners.analysis.rhythm import readings
from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.decode import decode

Array = NDArray[np.float64]

PENALTY = 1.0  # on the squares of weights of measures that are scaled to a standard deviation of 1
PARTS = 8


@attrs.frozen(eq=False)
class Case:
    """The readings of one song: its style, their measures and which of them are right."""

    style: str
    measures: Sequence[Mapping[str, float]]
    right: NDArray[np.bool_]


def read_cases(song: Song) -> tuple[Case, Case]:
    """Return the case of a song's rhythm and that of its key."""
    sound = mono(decode(song.path), SAMPLE_RATE)
    pitches = find_pitches(sound)
    rhythms, keys = list(readings(onset_bands(sound), pitches)), list(key_readings(pitches))
    heard = [same_tempo(reading.bpm, song.bpm) and reading.signature == song.signature for reading in rhythms]
    named = [reading.key == song.key for reading in keys]
    return (
        Case(song.style, [reading.measures for reading in rhythms], np.array(heard)),
        Case(song.style, [reading.measures for reading in keys], np.array(named)),
    )


def fit(cases: Sequence[Case]) -> dict[str, float]:
    """Return the weights under which the right readings of the cases are likeliest."""
    names = list(dict.fromkeys(name for case in cases for row in case.measures for name in row))
    tables = [(_table(case, names), case.right) for case in cases if case.right.any()]
    scale = np.concatenate([table for table, _ in tables]).std(axis=0) + 1e-9

    def unlikeliness(weights: Array) -> tuple[float, Array]:
        total, slope = PENALTY * float(weights @ weights), 2 * PENALTY * weights
        for table, right in tables:
            scaled = table / scale
            sums = scaled @ weights
            odds = np.exp(sums - sums.max())
            share = odds[right].sum() / odds.sum()
            total -= float(np.log(share + 1e-12))
            slope = slope + odds / odds.sum() @ scaled - odds[right] / odds[right].sum() @ scaled[right]
        return total, slope

    found = minimize(unlikeliness, np.zeros(len(names)), jac=True, method="L-BFGS-B").x / scale
    return {name: round(float(weight), 4) for name, weight in zip(names, found, strict=True)}


def _table(case: Case, names: Sequence[str]) -> Array:
    return np.array([[row.get(name, 0.0) for name in names] for row in case.measures])


def check(cases: Sequence[Case]) -> Iterator[tuple[bool, float]]:
    """Yield for each song whether the likeliest reading is right, and how likely it is, by weights of other styles."""
    styles = sorted({case.style for case in cases})
    for part in range(PARTS):
        left_out = set(styles[part::PARTS])
        weights = fit([case for case in cases if case.style not in left_out])
        for case in cases:
            if case.style in left_out:
                likely = probabilities(case.measures, weights)
                yield bool(case.right[likely.argmax()]), float(likely.max())


def report(name: str, results: Sequence[tuple[bool, float]]) -> str:
    """Return how many of the songs are right, and of those read with a probability of at least 0.8."""
    right, sure = [r for r, _ in results], [r for r, p in results if p >= 0.8]
    share = f"{100 * np.mean(sure):.1f} % of the {len(sure)} likeliest"
    return f"{name}: {100 * np.mean(right):.1f} % of {len(right)} songs right, {share}"


def main() -> None:
    """Read the command line and fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="sets made by render.py")
    parser.add_argument("--check", action="store_true", help="leave styles out in turn and print what is right")
    args = parser.parse_args()
    cases = [read_cases(song) for folder in args.folders for song in read_songs(folder)]
    named = {"rhythm": [rhythm for rhythm, _ in cases], "key": [key for _, key in cases]}
    if args.check:
        for name, some in named.items():
            print(report(name, list(check(some))))
        return
    file = Path(sidestep_captioners.analysis.__file__).with_name("weights.json")
    file.write_text(json.dumps({name: fit(some) for name, some in named.items()}, indent=1) + "\n", encoding="utf-8")
    print(f"weights from {len(cases)} songs in {file}")


if __name__ == "__main__":
    main()
