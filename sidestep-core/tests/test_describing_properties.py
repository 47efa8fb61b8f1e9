"""Whatever stands in sidecars and whatever is answered: what a user wrote and what was measured is safe."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidestep_core.describing.answers import read_answer
from sidestep_core.describing.normalise import FIELDS, normalise_all, says_nothing
from sidestep_core.describing.plan import ALONG, DESCRIPTION, LYRICS, Stage, wanted_fields
from sidestep_core.describing.provenance import owner, read_sources, write_fields
from sidestep_core.errors import ProviderError
from sidestep_core.sidecars import Sidecar, overwrites, read_sidecar, write_sidecar

EVERYTHING = Stage(name="all", fields=DESCRIPTION | LYRICS | ALONG)
POLICIES = ("fill_missing", "overwrite_caption", "overwrite_lyrics", "overwrite_all")
VALUES = {
    "caption": ("", "A song.", "Mood: dark\nkey: sparse", "N/A"),
    "genre": ("", "folk", "unknown"),
    "bpm": ("", "96", "120.5"),
    "key": ("", "C minor", "none"),
    "signature": ("", "4/4"),
    "language": ("", "en"),
    "is_instrumental": ("", "true", "false"),
    "lyrics": ("", "[Verse]\nbpm: of my heart", "la la"),
}
sidecars = st.fixed_dictionaries({field: st.sampled_from(values) for field, values in VALUES.items()})
fields = st.sets(st.sampled_from(FIELDS)).map(frozenset)
once = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def in_folder(texts: dict[str, str]) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory()
    song = Path(folder.name, "song.wav")
    write_sidecar(song, Sidecar(custom_tag="tag", **texts))
    return folder, song


def text_of(song: Path, field: str) -> str:
    sidecar = read_sidecar(song)
    assert sidecar is not None
    return str(getattr(sidecar, field))


@given(mine=sidecars, new=sidecars, policy=st.sampled_from(POLICIES))
@once
def test_what_a_user_wrote_changes_only_where_the_policy_says_so(mine, new, policy):
    folder, song = in_folder(mine)
    with folder:
        changed = write_fields(song, new, source="x", kind="provider", policy=policy)
        for field, text in mine.items():
            touched = text_of(song, field) != getattr(Sidecar(**{field: text}), field)
            assert touched == (field in changed)
            if touched and not says_nothing(text):
                assert overwrites(policy, field)
        assert text_of(song, "custom_tag") == "tag"


@given(new=sidecars, measured=fields, policy=st.sampled_from(POLICIES), kind=st.sampled_from(("provider", "guess")))
@once
def test_what_was_measured_never_changes(new, measured, policy, kind):
    folder, song = in_folder({})
    with folder:
        found = {field: VALUES[field][1] for field in measured}
        write_fields(song, found, source="signal", kind="measured")
        write_fields(song, new, source="x", kind=kind, policy=policy)
        assert {field: text_of(song, field) for field in found} == found


@given(new=sidecars)
@once
def test_what_a_program_wrote_is_known_to_be_its_own_until_it_is_changed(new):
    folder, song = in_folder({})
    with folder:
        changed = write_fields(song, new, source="x", kind="provider")
        sources = read_sources(song)
        owners = {field: owner(field, text_of(song, field), sources) for field in changed}
        assert set(owners.values()) <= {"provider", "nobody"}
        for field in changed:
            assert owner(field, text_of(song, field) + " and more", sources) == "user"


@given(new=sidecars, policy=st.sampled_from(POLICIES))
@once
def test_writing_the_same_again_changes_nothing(new, policy):
    folder, song = in_folder({})
    with folder:
        write_fields(song, new, source="x", kind="provider", policy=policy)
        before = {path.name: path.read_bytes() for path in song.parent.iterdir()}
        assert write_fields(song, new, source="x", kind="provider", policy=policy) == {}
        after = {path.name: path.read_bytes() for path in song.parent.iterdir()}
        assert before.keys() <= after.keys()
        assert before["song.txt"] == after["song.txt"]


@given(texts=sidecars, policy=st.sampled_from(POLICIES))
@once
def test_a_question_is_worth_its_price_and_asks_for_nothing_that_is_kept(texts, policy):
    wanted = wanted_fields(Sidecar(**texts), {}, EVERYTHING, policy)
    assert not wanted or wanted - ALONG
    for field in wanted:
        assert says_nothing(texts[field]) or overwrites(policy, field)


@given(texts=sidecars, answered=sidecars, policy=st.sampled_from(("fill_missing",)))
@once
def test_once_answered_nothing_is_asked_again(texts, answered, policy):
    folder, song = in_folder(texts)
    with folder:
        wanted = wanted_fields(read_sidecar(song) or Sidecar(), {}, EVERYTHING, policy)
        found = normalise_all({field: answered[field] for field in wanted})
        write_fields(song, {**dict.fromkeys(wanted, ""), **found}, source="all", kind="provider")
        again = wanted_fields(read_sidecar(song) or Sidecar(), read_sources(song), EVERYTHING, policy)
        assert again == frozenset()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*FIELDS, "text", "x")), inner),
    max_leaves=8,
)


@given(
    answer=st.dictionaries(st.sampled_from((*FIELDS, "text", "data", "tempo")), json_values) | st.text(), names=fields
)
@settings(max_examples=200)
def test_any_answer_is_read_or_refused(answer: Any, names: frozenset[str]):
    with contextlib.suppress(ProviderError):
        found = read_answer(answer, names)
        assert found.keys() <= names
        assert normalise_all(found) == found
        assert attrs.asdict(Sidecar(**found)).items() >= found.items()
