"""Values as people and models write them become what sidecars hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.describing.normalise import FIELDS, normalise, normalise_all
from sidestep_core.languages import LANGUAGES


@pytest.mark.parametrize(
    ("written", "bpm"),
    [
        ("120", "120"),
        ("120 BPM", "120"),
        ("120.5 BPM", "120.5"),
        ("120,5", "120.5"),
        ("~96", "96"),
        ("approximately 96 beats per minute", "96"),
        ("120-124", "122"),
        ("60 or 120", "60"),
        ("4/4 at 128", "128"),
        (96, "96"),
        (128.0, "128"),
        ("** 96 **", "96"),
        ("0", ""),
        ("9000", ""),
        (float("nan"), ""),
        (True, ""),
        ("fast", ""),
    ],
)
def test_a_tempo_is_a_number(written, bpm):
    assert normalise("bpm", written) == bpm


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("Cm", "C minor"),
        ("CM", "C major"),
        ("C", "C major"),
        ("Bbm", "Bb minor"),
        ("Bb", "Bb major"),
        ("F#m", "F# minor"),
        ("C♯ minor", "C# minor"),
        ("c# minor", "C# minor"),
        ("E♭ Major", "Eb major"),
        ("Db major", "Db major"),
        ("E-flat major", "Eb major"),
        ("F sharp minor", "F# minor"),
        ("Gmaj", "G major"),
        ("A_min", "A minor"),
        ("a-Moll", "A minor"),
        ("D dorian", "D minor"),
        ("**G major**", "G major"),
        ("key of D", "D major"),
        ("B minor (relative D major)", "B minor"),
        ("C minor, perhaps", "C minor"),
        ("I am not sure", ""),
        ("in a minor key", ""),
        ("A song", ""),
        ("H", ""),
    ],
)
def test_a_key_is_a_note_and_a_mode(written, key):
    assert normalise("key", written) == key


@pytest.mark.parametrize(
    ("written", "signature"),
    [
        ("4/4", "4/4"),
        ("4/4 time", "4/4"),
        ("common time", "4/4"),
        ("Cut time", "2/2"),
        ("6 / 8", "6/8"),
        ("six-eight", "6/8"),
        ("4", "4/4"),
        (3, "3/4"),
        (6.0, "6/8"),
        ("5/4 with bars of 4/4", "5/4"),
        ("4/3", ""),
        ("0/4", ""),
        ("steady", ""),
    ],
)
def test_a_signature_is_beats_and_a_unit(written, signature):
    assert normalise("signature", written) == signature


@pytest.mark.parametrize(
    ("written", "genre"),
    [
        ("rock", "rock"),
        (["Dream Pop", "shoegaze", "dream pop"], "Dream Pop, shoegaze"),
        ("['rock', 'indie']", "rock, indie"),
        ('["rock", "N/A"]', "rock"),
        ("- rock\n- indie", "rock, indie"),
        ("Hip-Hop/Rap; trap", "Hip-Hop/Rap, trap"),
        ("**rock**", "rock"),
        (["unknown", ""], ""),
    ],
)
def test_genres_are_a_list_without_repeats(written, genre):
    assert normalise("genre", written) == genre


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"),
        ("English", "en"),
        ("pt-BR", "pt"),
        ("zh_CN", "zh"),
        ("Mandarin Chinese", "zh"),
        ("Cantonese", "yue"),
        ("deu", "de"),
        ("日本語", "ja"),
        (["Spanish", "English"], "es"),
        ("instrumental", ""),
        ("Klingon", ""),
    ],
)
def test_a_language_is_a_code_that_the_model_knows(written, code):
    assert normalise("language", written) == code


@pytest.mark.parametrize(
    ("written", "flag"),
    [(True, "true"), (False, "false"), ("Yes.", "true"), ("no", "false"), ("[Instrumental]", "true"), ("maybe", "")],
)
def test_whether_anybody_sings_is_true_or_false(written, flag):
    assert normalise("is_instrumental", written) == flag


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "written", ["", None, "N/A", "n/a", "None", "null", "Unknown", "not detected", "Unspecified", "--", {}, [None]]
)
def test_words_that_say_nothing_are_nothing(field, written):
    assert normalise(field, written) == ""


def test_a_caption_is_one_paragraph_without_markup():
    assert normalise("caption", '```\n"**Warm** pads\nand\u200b a slow\x07 beat."\n```') == "Warm pads and a slow beat."
    assert normalise("caption", '"Low" end and "high" end') == '"Low" end and "high" end'


def test_lyrics_keep_their_lines():
    assert normalise("lyrics", "```\n[Verse]\r\nOne  \r\n\n\n\ntwo\n```") == "[Verse]\nOne\n\ntwo"


def test_letters_with_accents_are_composed():
    assert normalise("caption", "Cafe\u0301") == "Caf\u00e9"


def test_fields_that_say_nothing_are_left_out():
    assert normalise_all({"bpm": "120 BPM", "key": "N/A", "mood": " dark "}) == {"bpm": "120", "mood": "dark"}


def test_codes_are_those_of_the_model():
    assert len(LANGUAGES) == 50
    assert all(normalise("language", code) == code for code in LANGUAGES)


@given(st.sampled_from(FIELDS), st.text(max_size=60))
def test_what_is_normal_stays_as_it_is(field, text):
    once = normalise(field, text)
    assert normalise(field, once) == once
    assert once.encode().decode() == once
