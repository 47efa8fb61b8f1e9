"""Fitting weights and scoring analysers, on cases that are made here."""

from __future__ import annotations

import json
from pathlib import Path

import fit
import numpy as np
import pytest
import render
import score
import soundfile
from known_songs.compose import plan
from known_songs.truth import Song, read_songs
from sidestep_core.interfaces import Measured


def case(rng: np.random.Generator, style: str) -> fit.Case:
    """Return a case of four readings: `good` speaks for the right one, `bad` against it, `noise` says nothing."""
    right = np.arange(4) == rng.integers(4)
    measures = [
        {"good": is_right + rng.normal(0, 0.3), "bad": -is_right + rng.normal(0, 0.3), "noise": rng.normal()}
        for is_right in right.astype(float)
    ]
    return fit.Case(style, measures, right)


@pytest.fixture(scope="module")
def cases() -> list[fit.Case]:
    rng = np.random.default_rng(0)
    return [case(rng, f"style {i % 16}") for i in range(96)]


def song(name: str = "a.wav") -> Song:
    return Song(path=Path(name), style="rock", drums="rock", bpm=120.0, key="A minor", signature="4/4")


def answer(bpm: str, key: str, signature: str, confidence: str = "high") -> score.Answer:
    values = {"bpm": bpm, "key": key, "signature": signature}
    found = {name: Measured(value=v, confidence=confidence, probability=0.9) for name, v in values.items() if v}  # type: ignore[arg-type]
    return score.Answer(song(), found)


def test_weights_speak_for_what_tells_the_right_reading(cases: list[fit.Case]) -> None:
    weights = fit.fit(cases)
    assert weights["good"] > 1
    assert weights["bad"] < -1
    assert abs(weights["noise"]) < 0.5


def test_a_case_without_a_right_reading_changes_nothing(cases: list[fit.Case]) -> None:
    hopeless = fit.Case("style 0", cases[0].measures, np.zeros(4, dtype=bool))
    assert fit.fit([*cases, hopeless]) == fit.fit(cases)


def test_every_song_is_checked_once_by_weights_of_other_styles(cases: list[fit.Case]) -> None:
    results = list(fit.check(cases))
    assert len(results) == len(cases)
    assert np.mean([right for right, _ in results]) > 0.9
    assert all(0.25 <= probability <= 1 for _, probability in results)


def test_a_report_says_how_many_of_the_likeliest_are_right() -> None:
    line = fit.report("key", [(True, 0.9), (True, 0.95), (False, 0.85), (False, 0.4)])
    assert line == "key: 50.0 % of 4 songs right, 66.7 % of the 3 likeliest"


def test_a_rendered_set_is_what_its_truth_says(tmp_path: Path) -> None:
    clips = plan(1)[:2]
    render.write_set(clips, tmp_path, seconds=6.0, soundfont=None)
    songs = list(read_songs(tmp_path))
    assert [(s.bpm, s.key, s.signature) for s in songs] == [(c.bpm, c.key, c.metre) for c in clips]
    assert all(soundfile.info(s.path).duration > 6 for s in songs)


def test_readings_of_a_song_are_marked_as_right_or_wrong(tmp_path: Path) -> None:
    render.write_set(plan(1)[3:4], tmp_path, seconds=20.0, soundfont=None)
    rhythm, key = fit.read_cases(next(read_songs(tmp_path)))
    assert (len(key.measures), key.right.sum()) == (24, 1)
    assert 1 <= rhythm.right.sum() < len(rhythm.measures)


def test_a_row_counts_what_is_right() -> None:
    found = [answer("120", "A minor", "4/4"), answer("60", "C major", "3/4"), answer("121", "E minor", "4/4", "low")]
    cells = score.row("mine", found)
    assert cells == ["mine", "3", "66.7", "100.0", "33.3", "60.0", "66.7", "50.0 (2)", "50.0 (2)", "50.0 (2)"]


def test_what_was_not_measured_is_wrong() -> None:
    cells = score.row("mine", [answer("", "", "")])
    assert cells == ["mine", "1", "0.0", "0.0", "0.0", "0.0", "0.0", "-", "-", "-"]


def test_headings_and_rows_are_of_one_length() -> None:
    assert len(score.HEADINGS) == len(score.row("mine", [answer("120", "A minor", "4/4")]))
    assert score.line(["a", "b"]) == "| a | b |"


@pytest.mark.slow
def test_a_folder_is_scored_with_the_analyser_that_ships(tmp_path: Path) -> None:
    render.write_set(plan(31)[3:4], tmp_path, seconds=20.0, soundfont=None)
    (found,) = score.answers(tmp_path, "signal")
    assert found.song.path.name == json.loads((tmp_path / "truth.json").read_text())[0]["file"]
    assert found.is_right("bpm")
    assert found.mirex == 1
    assert list(tmp_path.glob("*.txt")) == []
