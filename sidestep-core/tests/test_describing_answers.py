"""Answers of models, structured or not, are read into fields."""

from __future__ import annotations

import json

import pytest
from sidestep_core.describing.answers import answer_schema, read_answer
from sidestep_core.describing.normalise import FIELDS
from sidestep_core.errors import ProviderError

WANTED = frozenset({"caption", "genre", "bpm", "key", "signature"})
FULL = {
    "caption": "Low key: sparse drums. The tempo: it drifts.",
    "genre": ["rock", "indie"],
    "bpm": 120.5,
    "key": "C♯ minor",
    "signature": "common time",
}
READ = {**FULL, "genre": "rock, indie", "bpm": "120.5", "key": "C# minor", "signature": "4/4"}


def test_the_schema_requires_every_wanted_field_and_lets_it_be_null():
    schema = answer_schema(frozenset({"lyrics", "bpm", "caption"}))
    assert schema["required"] == list(schema["properties"]) == ["caption", "bpm", "lyrics"]
    assert all("null" in field["type"] and field["description"] for field in schema["properties"].values())
    assert schema["additionalProperties"] is False


def test_every_field_has_a_schema():
    assert answer_schema(frozenset(FIELDS))["required"] == list(FIELDS)


@pytest.mark.parametrize(
    "answer",
    [
        FULL,
        json.dumps(FULL),
        json.dumps(FULL, indent=2, ensure_ascii=False),
        f"Here you are:\n```json\n{json.dumps(FULL)}\n```\nAnything else?",
        f'{{"note": 1}} {json.dumps(FULL)}',
        str(FULL),
        {"text": json.dumps(FULL)},
        {"data": [None, {"result": FULL}]},
        {"caption": FULL["caption"], "genres": FULL["genre"], "Tempo (BPM)": 120.5, "key_scale": "C# minor"}
        | {"timesignature": "4/4"},
    ],
    ids=["mapping", "json", "indented", "fenced", "second object", "python", "text", "nested", "aliases"],
)
def test_structured_answers_are_read_wherever_they_stand(answer):
    assert read_answer(answer, WANTED) == READ


@pytest.mark.parametrize(
    "answer",
    [
        "caption: {0}\ngenre: rock, indie\nbpm: 120.5 BPM\nkey: C♯ minor\nsignature: 4/4 time",
        "```\ncaption: {0}\ngenres: rock; indie\ntempo: ~120.5\nkey: C#m\ntime signature: common time\n```",
        "**Caption:** {0}\n\n**Genre:** rock, indie\n**BPM:** 120.5\n- **Key:** `C# minor`\n* Time Signature: 4/4",
        "1. Caption: {0}\n2. Genres: rock, indie\n3. Tempo (BPM): 120.5\n4. Key: C# minor\n5. Meter: 4/4",
        "## Caption\n{0}\n\n## Genre\nrock, indie\n## BPM\n120.5\n## Key\nC# minor\n## Signature\n4/4",
        '{{\n  "caption": "{0}",\n  "genre": "rock, indie",\n  "bpm": 120.5,\n  "key": "C# minor",\n  "meter": "4/4"',
    ],
    ids=["lines", "fenced", "markdown", "numbered", "headings", "broken json"],
)
def test_lines_are_read_from_their_beginning_only(answer):
    assert read_answer(answer.format(FULL["caption"]), WANTED) == READ


def test_fields_that_nobody_asked_for_end_a_caption_and_are_dropped():
    answer = "Caption: One line\nand another.\nTempo: 120 BPM\nTime signature: 4/4\nLanguage: English"
    assert read_answer(answer, frozenset({"caption"})) == {"caption": "One line and another."}


def test_other_words_before_a_colon_stay_in_the_caption():
    answer = "Caption: A song.\nMood: dark.\nbpm: 96"
    assert read_answer(answer, frozenset({"caption"})) == {"caption": "A song. Mood: dark."}


def test_lyrics_take_all_that_follows():
    answer = "# Languages\nen\n# Lyrics\n[Verse]\nKey: under the mat\n\n# strange\nBpm: of my heart"
    found = read_answer(answer, frozenset({"language", "lyrics", "bpm"}))
    assert found == {"language": "en", "lyrics": "[Verse]\nKey: under the mat\n\n# strange\nBpm: of my heart"}


def test_lyrics_may_be_a_list_of_lines():
    assert read_answer({"lyrics": ["[Verse]", "One"]}, frozenset({"lyrics"})) == {"lyrics": "[Verse]\nOne"}


def test_a_fields_own_name_counts_before_others():
    assert read_answer({"key": "C minor", "scale": "D major"}, WANTED) == {"key": "C minor"}
    assert read_answer({"key": None, "scale": "D major"}, WANTED) == {"key": "D major"}


def test_what_is_open_or_makes_no_sense_is_absent():
    assert read_answer({"caption": "N/A", "bpm": 0, "key": "hard to tell", "genre": []}, WANTED) == {}
    assert read_answer("caption: N/A\nbpm: unknown", WANTED) == {}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot listen to audio.",
        "{",
        '{"caption": "cut',
        "[]",
        {},
        {"mood": "dark"},
        "low key: sparse",
        "{" * 5000,
    ],
)
def test_an_answer_to_another_question_is_refused(answer):
    with pytest.raises(ProviderError, match="the answer names none of bpm, caption") as caught:
        read_answer(answer, WANTED)
    assert caught.value.kind == "bad answer"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "caption",
    [
        "I'm sorry, but I can't listen to audio files.",
        "I am unable to hear the recording.",
        "I cannot access the attachment.",
        "I can't process this.",
        "As an AI language model, I have no ears.",
        "Unfortunately, I did not get a recording.",
        "No audio was provided.",
        "Sorry, something went wrong.",
    ],
)
def test_an_excuse_is_no_caption(caption):
    with pytest.raises(ProviderError, match="an excuse") as caught:
        read_answer({"caption": caption, "bpm": 96}, WANTED)
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("caption", ["A voice says I'm sorry over strings.", "Sorry-sounding strings.", "Icy pads."])
def test_captions_about_excuses_are_captions(caption):
    assert read_answer({"caption": caption}, WANTED) == {"caption": caption}


def test_an_object_that_leaves_open_all_that_is_wanted_is_an_answer() -> None:
    assert read_answer('{"caption": "Slow.", "language": null}', frozenset({"language"})) == {}
