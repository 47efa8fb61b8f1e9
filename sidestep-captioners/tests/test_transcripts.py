"""Reading lyrics and descriptions out of whatever servers answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidestep_captioners.lines import Segment, prose_lines, segment_lines
from sidestep_captioners.transcripts import read_description, read_transcript
from sidestep_core.errors import ProviderError

TWO = "Line one\nLine two"
WANTED = frozenset({"caption", "genre", "bpm", "key"})


def lyrics(answer):
    return read_transcript(answer).get("lyrics", "")


@pytest.mark.parametrize(
    "answer",
    [
        TWO,
        {"lyrics": TWO},
        {"text": TWO},
        {"transcript": TWO},
        {"result": TWO},
        {"output": {"text": TWO}},
        {"data": {"response": {"lyrics": TWO}}},
        {"prediction": [TWO]},
        [{"output": TWO}],
        ["Line one", "Line two"],
        json.dumps({"lyrics": TWO}),
        f"```json\n{json.dumps({'text': TWO})}\n```",
        {"result": json.dumps({"data": json.dumps({"lyrics": TWO})})},
        {"lyrics": "", "text": TWO},
        f"Lyrics:\n{TWO}",
        f"```\n{TWO}\n```",
        "[00:01.20] Line one\n[00:05.00] Line two",
        "[00:00.000 --> 00:04.000]  Line one\n[00:04.000 --> 00:08.000]  Line two",
    ],
)
def test_lyrics_are_found_however_they_are_wrapped(answer):
    assert lyrics(answer) == TWO


@pytest.mark.parametrize("answer", [{}, {"id": 3}, [1], None, 7, {"lyrics": None}, {"data": {"data": {}}}])
def test_an_answer_without_a_place_for_lyrics_is_bad(answer):
    with pytest.raises(ProviderError) as caught:
        read_transcript(answer)
    assert caught.value.kind == "bad answer"


@pytest.mark.parametrize("answer", [{"lyrics": ""}, {"segments": [], "text": ""}, "", {"data": {"text": " "}}])
def test_an_empty_answer_is_an_answer(answer):
    assert read_transcript(answer) == {}


def test_an_error_in_an_answer_is_told():
    with pytest.raises(ProviderError, match="model not loaded") as caught:
        read_transcript({"error": "model not loaded", "lyrics": ""})
    assert caught.value.kind == "bad answer"


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can't listen to audio.", "Sorry, I cannot transcribe this.", "I can't help with lyrics."]
)
def test_a_refusal_is_no_lyrics(text):
    for answer in (text, {"text": text}):
        with pytest.raises(ProviderError) as caught:
            read_transcript(answer)
        assert caught.value.kind == "refused"


@pytest.mark.parametrize(
    "text", ["I can't get no\nSatisfaction", "Sorry seems to be the hardest word", "I can't dance"]
)
def test_songs_may_be_sorry(text):
    assert lyrics({"text": text}) == text


def test_a_line_that_speaks_of_lyrics_is_kept():
    assert lyrics("Lyrics of my own\nI wrote") == "Lyrics of my own\nI wrote"


def test_the_form_of_ace_steps_transcriber_is_read():
    answer = {"text": "# Languages\nen\n\n# Lyrics\n[Verse 1]\nLine one\nLine two"}
    assert read_transcript(answer) == {"language": "en", "lyrics": "[Verse 1]\nLine one\nLine two"}


@pytest.mark.parametrize(
    "answer",
    [
        {"text": TWO, "language": "de"},
        {"data": {"lyrics": TWO, "lang": "de"}},
        {"lyrics": TWO, "detected_language": "de"},
        json.dumps({"result": {"text": TWO, "vocal_language": "de"}}),
    ],
)
def test_the_language_is_taken_along(answer):
    assert read_transcript(answer) == {"lyrics": TWO, "language": "de"}


def words(text, *, step=0.3, gaps=()):
    """Words of a text with times; `gaps` are (index, seconds) of silence before a word."""
    made, now = [], 0.0
    for number, word in enumerate(text.split()):
        now += dict(gaps).get(number, 0.0)
        made.append({"word": word, "start": now, "end": now + step})
        now += step
    return made


def test_words_become_lines_of_eight():
    text = "one two three four five six seven eight nine ten"
    assert lyrics({"words": words(text)}) == "one two three four five six seven eight\nnine ten"


def test_a_short_silence_ends_a_line_that_has_four_words():
    found = lyrics({"segments": words("a b c d e f g", gaps=[(2, 1.0), (4, 1.0)])})
    assert found == "a b c d\ne f g"


def test_a_long_silence_begins_a_new_verse():
    assert lyrics({"segments": words("a b c d", gaps=[(2, 1.7)])}) == "a b\n\nc d"


def test_closing_punctuation_ends_a_line():
    assert lyrics({"segments": words("Oh why? Tell me")}) == "Oh why?\nTell me"


def test_phrases_stay_lines():
    segments = [
        {"text": " I walk the line", "start": 0, "end": 2},
        {"text": " Because you are mine", "start": 2, "end": 4},
        {"text": " And so it goes on", "start": 6, "end": 8},
    ]
    assert lyrics({"text": "I walk the line Because", "segments": segments}) == (
        "I walk the line\nBecause you are mine\n\nAnd so it goes on"
    )


def test_a_phrase_of_many_words_is_wrapped():
    phrase = " ".join(f"word{number}" for number in range(18))
    lines = lyrics({"segments": [{"text": phrase}]}).split("\n")
    assert [len(line.split()) for line in lines] == [6, 6, 6]


def test_tokens_that_bring_their_own_spaces_are_not_torn():
    tokens = [" I", " don", "'t", " know", " why", " you", " went", " far", " a", "way", " then"]
    segments = [Segment(token, n * 0.2, n * 0.2 + 0.2) for n, token in enumerate(tokens)]
    assert segment_lines(segments) == "I don't know why you went far away\nthen"


def test_times_of_hugging_face_are_read():
    chunks = [{"timestamp": [0.0, 1.0], "text": "a b c"}, {"timestamp": [3.0, None], "text": "d e f"}]
    assert lyrics({"text": "a b c d e f", "chunks": chunks}) == "a b c\n\nd e f"


def test_words_without_times_still_become_lines():
    assert lyrics({"segments": [{"text": word} for word in ["a", "b", "c"]]}) == "a b c"


def test_a_script_without_spaces_gets_none():
    segments = [{"text": character, "start": n, "end": n + 1} for n, character in enumerate("夜に駆ける")]
    assert lyrics({"segments": segments}) == "夜に駆ける"


def test_prose_is_wrapped_without_a_word_alone():
    lines = prose_lines("la " * 9).split("\n")
    assert [len(line.split()) for line in lines] == [4, 5]


def test_prose_ends_lines_at_punctuation():
    assert prose_lines("I came. I saw you there! Did you?") == "I came.\nI saw you there!\nDid you?"


def test_prose_in_japanese_is_wrapped_by_characters():
    lines = prose_lines("あ" * 40).split("\n")
    assert "".join(lines) == "あ" * 40
    assert max(map(len, lines)) <= 16


@given(st.text(alphabet="ab .,!?\n夜に'", max_size=200))
def test_wrapping_loses_no_letter(text):
    assert "".join(prose_lines(text).split()) == "".join(text.split())


KEYS = st.sampled_from(["text", "lyrics", "data", "segments", "start", "error"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@settings(max_examples=60)
@given(ANY_JSON)
def test_any_json_is_read_or_refused(answer):
    try:
        found = read_transcript(answer)
    except ProviderError:
        return
    assert all(isinstance(text, str) and text for text in found.values())


def test_fields_beside_a_text_that_holds_others_are_merged():
    answer = {"text": json.dumps({"caption": "A song.", "genres": ["folk"], "bpm": 90}), "bpm": 96, "keyscale": "Cm"}
    found = read_description(answer, WANTED)
    assert found == {"caption": "A song.", "genre": "folk", "bpm": "96", "key": "C minor"}


def test_json_within_a_text_loses_nothing():
    answer = {"text": json.dumps({"caption": "A song.", "bpm": 120, "genres": "rock, pop"})}
    assert read_description(answer, WANTED) == {"caption": "A song.", "bpm": "120", "genre": "rock, pop"}


def test_outputs_of_several_boxes_are_merged():
    assert read_description(["bpm: 96\nkey: Cm", {"caption": "A song."}], WANTED) == {
        "bpm": "96",
        "key": "C minor",
        "caption": "A song.",
    }


def test_prose_is_a_caption_where_one_is_wanted():
    assert read_description({"text": "A slow song with a piano."}, WANTED) == {"caption": "A slow song with a piano."}
    with pytest.raises(ProviderError) as caught:
        read_description({"text": "A slow song with a piano."}, frozenset({"bpm"}))
    assert caught.value.kind == "bad answer"


def test_a_model_that_cannot_listen_gives_no_caption():
    with pytest.raises(ProviderError) as caught:
        read_description({"text": "I'm sorry, I cannot listen to audio files directly."}, WANTED)
    assert caught.value.kind == "refused"
