"""Who wrote what into a sidecar, and who may overwrite whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sidestep_core.describing.provenance import (
    may_overwrite,
    owner,
    read_sources,
    record,
    sources_path,
    write_fields,
)
from sidestep_core.errors import DatasetError
from sidestep_core.files import hash_text
from sidestep_core.sidecars import Sidecar, read_sidecar, sidecar_path, write_sidecar


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return tmp_path / "Söng.take 2.wav"


def test_what_was_recorded_is_read_back(song):
    record(song, {"bpm": "96"}, source="signal", kind="measured", confidence={"bpm": "high"})
    record(song, {"key": "C minor"}, source="gemini", kind="guess", doubts={"key": ("look", "again")})
    bpm, key = (read_sources(song)[field] for field in ("bpm", "key"))
    assert (bpm.source, bpm.kind, bpm.confidence, bpm.value, bpm.doubts) == ("signal", "measured", "high", "96", ())
    assert (key.source, key.kind, key.confidence, key.doubts) == ("gemini", "guess", None, ("look", "again"))


def test_the_record_stands_beside_the_sidecar(song):
    assert sources_path(song).name == "Söng.take 2.sources.json"


def test_long_texts_are_known_by_their_hash(song):
    record(song, {"lyrics": "la " * 1000}, source="genius", kind="provider")
    assert owner("lyrics", ("la " * 1000).strip(), read_sources(song)) == "provider"
    assert sources_path(song).stat().st_size < 200


def test_without_a_record_everything_is_the_users(song):
    assert read_sources(song) == {}
    assert owner("bpm", "96", {}) == "user"
    assert owner("bpm", "", {}) == "nobody"


def test_a_value_that_was_changed_is_the_users(song):
    record(song, {"bpm": "96"}, source="signal", kind="measured")
    assert owner("bpm", "96", read_sources(song)) == "measured"
    assert owner("bpm", "97", read_sources(song)) == "user"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bpm": 1}', '{"bpm": {"source": "x", "kind": "magic"}}'])
def test_a_damaged_record_is_an_error_that_says_what_to_do(song, content):
    sources_path(song).write_text(content)
    with pytest.raises(DatasetError, match="delete it"):
        read_sources(song)


RANKED = ("guess", "provider", "measured")


@pytest.mark.parametrize("held", RANKED)
@pytest.mark.parametrize("new", RANKED)
@pytest.mark.parametrize("overwrite", [False, True])
def test_better_sources_take_the_place_of_worse_ones_and_never_the_other_way_round(song, held, new, overwrite):
    record(song, {"key": "C minor"}, source="a", kind=held)
    allowed = may_overwrite("key", "C minor", read_sources(song), kind=new, overwrite=overwrite)
    better = RANKED.index(new) - RANKED.index(held)
    assert allowed == (better > 0 or (overwrite and better == 0))


@pytest.mark.parametrize("kind", RANKED)
def test_what_a_user_wrote_gives_way_to_the_policy_alone(kind):
    assert not may_overwrite("key", "C minor", {}, kind=kind)
    assert may_overwrite("key", "C minor", {}, kind=kind, overwrite=True)
    assert may_overwrite("key", "", {}, kind=kind)


def test_fields_are_written_where_they_may(song):
    write_sidecar(song, Sidecar(caption="mine", custom_tag="tag"))
    found = {"caption": "new", "bpm": "96"}
    assert write_fields(song, found, source="gemini", kind="provider") == {"bpm": "96"}
    assert read_sidecar(song) == Sidecar(caption="mine", custom_tag="tag", bpm="96")
    assert list(read_sources(song)) == ["bpm"]


@pytest.mark.parametrize(
    ("policy", "changed"),
    [
        ("fill_missing", {"genre"}),
        ("overwrite_caption", {"genre", "caption"}),
        ("overwrite_lyrics", {"genre", "lyrics"}),
        ("overwrite_all", {"genre", "caption", "lyrics", "bpm"}),
    ],
)
def test_policies_overwrite_their_fields_and_fill_the_others(song, policy, changed):
    write_sidecar(song, Sidecar(caption="mine", lyrics="mine", bpm="90"))
    found = {"caption": "new", "lyrics": "new", "bpm": "91", "genre": "rock"}
    assert write_fields(song, found, source="x", kind="provider", policy=policy).keys() == changed


def test_a_guess_does_not_overwrite_a_measurement_whatever_the_policy(song):
    write_fields(song, {"bpm": "96"}, source="signal", kind="measured")
    assert write_fields(song, {"bpm": "192"}, source="gemini", kind="guess", policy="overwrite_all") == {}
    assert read_sidecar(song).bpm == "96"


def test_a_measurement_takes_the_place_of_a_guess(song):
    write_fields(song, {"bpm": "192"}, source="gemini", kind="guess")
    assert write_fields(song, {"bpm": "96"}, source="signal", kind="measured") == {"bpm": "96"}


def test_what_changes_nothing_writes_nothing(song):
    assert write_fields(song, {}, source="x", kind="provider") == {}
    assert not sidecar_path(song).exists()
    write_sidecar(song, Sidecar(bpm="96"))
    assert write_fields(song, {"bpm": "96"}, source="x", kind="provider", policy="overwrite_all") == {}
    assert not sources_path(song).exists()


def test_what_was_looked_for_and_not_found_is_noted(song):
    write_sidecar(song, Sidecar(key="C minor"))
    assert write_fields(song, {"bpm": "", "key": ""}, source="gemini", kind="provider", model="flash") == {}
    (bpm,) = read_sources(song).values()
    assert (bpm.source, bpm.model, bpm.written, bpm.value) == ("gemini", "flash", hash_text(""), "")
    assert owner("bpm", "", read_sources(song)) == "nobody"


@pytest.mark.parametrize("text", ["N/A", "unknown", "None", "-"])
def test_words_that_say_nothing_are_nobodys(text):
    assert owner("genre", text, {}) == "nobody"


def test_what_a_provider_is_unsure_of_is_a_guess(song):
    fields = {"bpm": "96", "key": "C minor", "genre": "rock"}
    write_fields(song, fields, source="x", kind="provider", confidence={"bpm": "low", "key": "medium"})
    kinds = {field: (source.kind, source.confidence) for field, source in read_sources(song).items()}
    assert kinds == {"bpm": ("guess", "low"), "key": ("provider", "medium"), "genre": ("provider", None)}


def test_the_record_is_json_that_people_can_read(song):
    write_fields(song, {"genre": "Chañarcillo"}, source="Gemini", kind="provider")
    text = sources_path(song).read_text(encoding="utf-8")
    assert "Chañarcillo" in text
    assert json.loads(text)["genre"]["kind"] == "provider"
