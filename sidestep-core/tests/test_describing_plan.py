"""What is asked of whom, before anything is paid for."""

from __future__ import annotations

from pathlib import Path

import pytest
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.plan import DESCRIPTION, LYRICS, METADATA, Stage, audio_dir, plan_songs
from sidestep_core.describing.provenance import record, sources_path, write_fields
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.sidecars import Sidecar, sidecar_path, write_sidecar

FULL = Sidecar(caption="c", genre="g", bpm="96", key="C minor", signature="4/4", lyrics="l")
TALKER = Stage(name="talker", fields=DESCRIPTION | {"language", "is_instrumental"})
SINGER = Stage(name="singer", fields=LYRICS)
METER = Stage(name="meter", fields=METADATA)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.touch()
    return path


def asked(song: Path, *stages: Stage, policy="fill_missing") -> dict[str, set[str]]:
    (plan,) = plan_songs(song.parent, stages, policy)
    return {name: set(fields) for name, fields in plan.asked.items()}


def test_a_song_without_a_sidecar_wants_everything(song):
    assert asked(song, SINGER, TALKER) == {
        "singer": {"lyrics", "language", "is_instrumental"},
        "talker": {"caption", "genre", "bpm", "key", "signature"},
    }


def test_a_complete_song_costs_nothing(song):
    write_sidecar(song, FULL)
    (plan,) = plan_songs(song.parent, [SINGER, TALKER], "fill_missing")
    assert (plan.complete, plan.asked) == (True, {})


def test_only_what_is_missing_is_asked_for(song):
    write_sidecar(song, Sidecar(caption="c", genre="unknown", bpm="96", signature="N/A", lyrics="l", language="en"))
    assert asked(song, SINGER, TALKER) == {"talker": {"genre", "key", "signature", "is_instrumental"}}


def test_language_alone_is_not_worth_a_question(song):
    write_sidecar(song, FULL)
    assert asked(song, SINGER) == {}


def test_nobody_is_asked_twice_for_a_field(song):
    assert asked(song, METER, TALKER)["talker"] == {"caption"}


def test_an_instrumental_has_no_lyrics(song):
    write_sidecar(song, Sidecar(is_instrumental="true"))
    assert asked(song, SINGER) == {}
    assert asked(song, SINGER, policy="overwrite_lyrics") == {"singer": {"lyrics", "language"}}


@pytest.mark.parametrize(
    ("policy", "talker", "singer"),
    [
        ("fill_missing", set(), set()),
        ("overwrite_caption", {"caption"}, set()),
        ("overwrite_lyrics", set(), {"lyrics"}),
        ("overwrite_all", {"caption", "genre", "bpm", "key", "signature"}, {"lyrics"}),
    ],
)
def test_policies_ask_for_what_they_overwrite_and_nothing_else(song, policy, talker, singer):
    write_sidecar(song, FULL)
    plan = asked(song, SINGER, TALKER, policy=policy)
    assert plan.get("talker", set()) - {"language", "is_instrumental"} == talker
    assert plan.get("singer", set()) - {"language", "is_instrumental"} == singer


def test_what_was_measured_is_not_asked_for_again(song):
    write_sidecar(song, Sidecar(caption="c"))
    write_fields(song, {"bpm": "96", "key": "C minor", "signature": "4/4"}, source="signal", kind="measured")
    assert asked(song, TALKER, policy="overwrite_all")["talker"] == {"caption", "genre", "language", "is_instrumental"}


def test_what_a_provider_left_open_is_not_asked_for_again(song):
    write_sidecar(song, Sidecar(caption="c", genre="g", signature="4/4"))
    record(song, {"bpm": "", "key": ""}, source="talker", kind="provider")
    assert asked(song, TALKER) == {}
    assert asked(song, METER)["meter"] >= {"bpm", "key"}
    assert asked(song, TALKER, policy="overwrite_all")["talker"] >= {"bpm", "key"}


def test_songs_that_share_a_sidecar_are_described_once(song):
    song.with_suffix(".mp3").touch()
    song.with_name("b.wav").touch()
    assert [plan.name for plan in plan_songs(song.parent, [TALKER], "fill_missing")] == ["a.mp3", "b.wav"]


def test_songs_of_one_name_in_two_folders_are_two(song):
    other = song.parent / "sub" / "a.wav"
    other.parent.mkdir()
    other.touch()
    write_sidecar(other, FULL)
    plans = plan_songs(song.parent, [TALKER], "fill_missing")
    assert [(plan.name, plan.complete) for plan in plans] == [("a.wav", False), ("sub/a.wav", True)]


def test_a_damaged_sidecar_is_a_problem_of_its_song(song):
    song.with_name("b.wav").touch()
    sidecar_path(song).write_bytes(b"caption: \xff")
    broken, fine = plan_songs(song.parent, [TALKER], "fill_missing")
    assert "not UTF-8" in broken.problem
    assert fine.asked
    assert not broken.complete


def test_a_damaged_record_is_a_problem_of_its_song(song):
    sources_path(song).write_text("{")
    (plan,) = plan_songs(song.parent, [TALKER], "fill_missing")
    assert "delete it" in plan.problem


def test_a_folder_without_songs_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no audio"):
        plan_songs(tmp_path, [TALKER], "fill_missing")
    with pytest.raises(ConfigError, match="--audio-dir"):
        audio_dir(CaptionsConfig())
