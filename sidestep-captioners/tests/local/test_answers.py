"""What local models' answers come to, without a model."""

from __future__ import annotations

import pytest
from sidestep_captioners.local.captioner import said_in_prose
from sidestep_captioners.local.transcriber import sung
from sidestep_core.errors import ProviderError

ALL = frozenset({"caption", "bpm", "key", "signature"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Fast, at 128 BPM in 4/4.", {"bpm": "128", "signature": "4/4"}),
        ("A waltz of 90.5 beats per minute in Bb major", {"bpm": "90.5", "key": "Bb major"}),
        ("It moves from C minor to E flat major.", {}),
        ("It is 80 BPM, then 160 BPM.", {}),
        ("In the key of F sharp minor; F# minor throughout", {"key": "F# minor"}),
        ("A major change in mood, a minor one later", {}),
        ("From 1990 with 808 drums, 12/31/99", {}),
    ],
)
def test_prose_names_tempo_key_and_metre_where_it_names_one(text: str, found: dict[str, str]) -> None:
    made = said_in_prose(text, ALL)
    assert made.pop("caption") == text
    assert made == found


def test_only_what_is_wanted_is_taken_from_prose() -> None:
    assert said_in_prose("Slow, 60 BPM", frozenset({"bpm"})) == {"bpm": "60"}


@pytest.mark.parametrize("text", ["", " \n", "N/A"])
def test_no_words_are_a_bad_answer(text: str) -> None:
    with pytest.raises(ProviderError) as caught:
        said_in_prose(text, ALL)
    assert caught.value.kind == "bad answer"


def test_an_excuse_is_no_caption() -> None:
    with pytest.raises(ProviderError) as caught:
        said_in_prose("I'm sorry, but I can't listen to audio files.", ALL)
    assert caught.value.kind == "refused"


def test_lyrics_of_several_pieces_are_joined_in_order() -> None:
    made = sung(
        [
            "# Languages\nen\n# Lyrics\n[Verse]\nOne",
            "# Languages\nfr\n# Lyrics\nDeux",
            "# Languages\nfr\n# Lyrics\nTrois",
        ]
    )
    assert made == {"lyrics": "[Verse]\nOne\n\nDeux\n\nTrois", "language": "fr", "is_instrumental": "false"}


@pytest.mark.parametrize(
    "text",
    [
        "# Languages\nen\n\n# Lyrics\n[Verse]\nHello: you",
        "# Languages: en\n# Lyrics:\n[Verse]\nHello: you",
        "## Languages\n\nEnglish\n\n## Lyrics\n\n[Verse]\nHello: you\n",
    ],
)
def test_headings_of_any_kind_are_read(text: str) -> None:
    assert sung([text]) == {"lyrics": "[Verse]\nHello: you", "language": "en", "is_instrumental": "false"}


@pytest.mark.parametrize("words", ["[Instrumental]", "[Intro]\n[Guitar Solo]\n[Outro]"])
def test_a_song_without_words_is_instrumental_in_no_language(words: str) -> None:
    made = sung([f"# Languages\nen\n# Lyrics\n{words}"])
    assert made == {"lyrics": "[Instrumental]", "is_instrumental": "true"}


def test_a_piece_without_words_adds_none() -> None:
    made = sung(["# Languages\nunknown\n# Lyrics\n[Instrumental]", "# Languages\nde\n# Lyrics\nHallo"])
    assert made == {"lyrics": "Hallo", "language": "de", "is_instrumental": "false"}


def test_an_answer_without_headings_is_a_bad_one() -> None:
    with pytest.raises(ProviderError) as caught:
        sung(["I cannot hear anything"])
    assert caught.value.kind == "bad answer"
