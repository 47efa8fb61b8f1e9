"""Values under any program's names become a sidecar, and nothing that somebody wrote is dropped."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.records import knows_any, sidecar_of
from sidestep_core.sidecars import Sidecar, parse, render

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-999, 9999), st.floats(allow_nan=False), st.text(max_size=12))
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner))
)
NAMES = st.one_of(st.sampled_from(["caption", "bpm", "tempo", "Key", "tags", "lyrics", "mood"]), st.text(max_size=8))


def said(values: dict[str, Any]) -> dict[str, str]:
    """Return the fields of the sidecar that say something."""
    return {name: value for name, value in attrs.asdict(sidecar_of(values)[0]).items() if value}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"caption": "warm", "bpm": 90}, {"caption": "warm", "bpm": "90"}),
        ({"bpm": 85.0}, {"bpm": "85"}),
        ({"bpm": 85.5}, {"bpm": "85.5"}),
        ({"Tempo": "90", "KeyScale": "C", "timesignature": "3/4"}, {"bpm": "90", "key": "C", "signature": "3/4"}),
        ({"genres": ["rock", "pop"], "tags": ["a"]}, {"genre": "rock, pop", "tags": "a"}),
        ({"vocal_language": "ja", "instrumental": False}, {"language": "ja", "is_instrumental": "false"}),
        ({"raw_lyrics": "la"}, {"lyrics": "la"}),
        ({"trigger": "x"}, {"trigger": "x"}),
        ({"language": "unknown", "genre": "", "bpm": None, "tags": []}, {}),
        ({"id": "1234abcd", "audio_path": "a.wav", "filename": "a.wav", "labeled": True}, {}),
    ],
)
def test_the_names_of_other_programs_are_known(values: dict[str, Any], expected: dict[str, str]) -> None:
    assert said(values) == expected


def test_the_name_that_sidecars_use_comes_first_and_the_other_value_stays() -> None:
    assert said({"tempo": 80, "bpm": 90}) == {"bpm": "90", "other": "tempo: 80"}


def test_the_same_value_under_two_names_stands_there_once() -> None:
    assert said({"lyrics": "la", "raw_lyrics": "la"}) == {"lyrics": "la"}


def test_unknown_names_are_kept_as_lines() -> None:
    assert said({"caption": "c", "mood": "dark", "singer": {"name": "Ann"}}) == {
        "caption": "c",
        "other": 'mood: dark\nsinger: {"name": "Ann"}',
    }


def test_a_value_of_a_wrong_kind_is_a_doubt_and_is_kept() -> None:
    sidecar, doubts = sidecar_of({"caption": ["a", 1], "bpm": {"value": 90}})
    assert doubts == ["caption must be text or a number", "bpm must be text or a number"]
    assert sidecar == Sidecar(other='caption: ["a", 1]\nbpm: {"value": 90}')


def test_what_utf8_cannot_hold_is_kept_as_an_escape() -> None:
    sidecar, doubts = sidecar_of({"caption": "a\ud800"})
    assert (sidecar.other, doubts) == ('caption: "a\\ud800"', ["caption must be text or a number"])


@pytest.mark.parametrize(
    ("values", "known"), [({"caption": 1}, True), ({"BPM": 1}, True), ({"version": 1}, False), ({}, False)]
)
def test_an_object_about_a_song_is_told_from_another(values: dict[str, Any], known: bool) -> None:
    assert knows_any(values) is known


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_json_object_becomes_a_sidecar_that_reads_back_the_same(values: dict[str, Any]) -> None:
    sidecar, _ = sidecar_of(json.loads(json.dumps(values)))
    render(sidecar).encode()
    assert parse(render(sidecar)) == sidecar
