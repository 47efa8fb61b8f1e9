"""Signs that an answer was made up are shown; real lyrics and right values are not doubted."""

from __future__ import annotations

from pathlib import Path

import pytest
from sidestep_core.describing.guards import find_doubts
from sidestep_core.describing.provenance import Source
from sidestep_core.interfaces import Track
from sidestep_core.languages import load_guesser

SONG = Track(path=Path("a.wav"), title="a", duration=200.0)
CHORUS = (
    "[Chorus]\nLet it go, let it go\nCan't hold it back any more\nLet it go, let it go\nTurn away and slam the door\n"
)
VERSES = "\n".join(f"[Verse {n}]\nthe {n}th time I sang\nit had another word like {'abcdefgh'[n]}\n" for n in range(6))


def doubts(field: str, text: str, *, measured: str = "", track: Track = SONG, **more: str) -> str:
    sources = {field: Source(source="signal", kind="measured", value=measured)} if measured else {}
    return " / ".join(find_doubts(track, {field: text, **more}, sources).get(field, ()))


@pytest.mark.parametrize(
    "lyrics",
    [
        VERSES.replace("\n[", f"\n{CHORUS}\n["),
        CHORUS,
        "la la la la la la la la\n" * 4,
        "Around the world, around the world\n" * 8,
        "[Instrumental]",
    ],
    ids=["song", "chorus", "la la", "eight times", "instrumental"],
)
def test_songs_as_they_are_sung_are_not_doubted(lyrics):
    assert doubts("lyrics", lyrics, language="en") == ""


@pytest.mark.parametrize(
    ("lyrics", "said"),
    [
        ("One line\n" * 30, "'one line' stands there 30 times in a row"),
        ("oh " * 200, "'oh' stands there 200 times in a row"),
        ("\n".join(["one", "two", "three"] * 20), "only 3 of 60 lines differ"),
        ("A line\nThank you for watching!", "from subtitles"),
        ("ご視聴ありがとうございました", "from subtitles"),
        ("Untertitel im Auftrag des ZDF", "from subtitles"),
        (" ".join(f"word{n}" for n in range(1300)), "1300 words are too many for 200 s"),
    ],
)
def test_what_models_make_up_is_doubted(lyrics, said):
    assert said in doubts("lyrics", lyrics)


@pytest.mark.parametrize(
    ("lyrics", "language", "said"),
    [
        ("다시 만난 세계에서 우리는 서로를 알아보고 손을 잡고 걸어갑니다 언제까지나 함께 있을 거예요", "ja", "Hangul"),
        ("Я помню чудное мгновенье, передо мной явилась ты, как мимолётное виденье", "en", "Cyrillic"),
        ("Я помню чудное мгновенье, передо мной явилась ты, как мимолётное виденье", "ru", ""),
        ("ichi ni san shi go roku shichi hachi kyuu juu jyuuichi jyuuni", "ja", ""),
        ("桜の花が咲く頃にまた会いましょうと言ったあなたの声がまだ聞こえる気がする春の日の午後", "ja", ""),
        ("Я", "en", ""),
    ],
)
def test_lyrics_are_in_the_language_they_are_said_to_be_in(lyrics, language, said):
    found = doubts("lyrics", lyrics, language=language)
    assert (said in found) if said else found == ""


FRENCH = "Je marche dans la rue et le vent me parle\nde tous les jours que nous avons perdus"


@pytest.mark.parametrize(("language", "said"), [("en", "they look like 'fr'"), ("fr", ""), ("", ""), ("ja", "")])
def test_lyrics_look_like_their_language(language, said):
    found = find_doubts(SONG, {"lyrics": FRENCH, "language": language}, {}, load_guesser())
    assert said in " ".join(found.get("lyrics", ())) if said else found == {}


def test_a_language_that_is_known_already_counts():
    known = Track(path=Path("a.wav"), title="a", known={"language": "en"})
    assert "Cyrillic" in doubts("lyrics", "передо мной явилась ты как мимолётное виденье гений", track=known)


@pytest.mark.parametrize(
    ("measured", "told", "said"),
    [
        ("96", "96", ""),
        ("96", "98.5", ""),
        ("96", "192", "96 was measured; 192 is another level of the same tempo"),
        ("96", "48", "another level"),
        ("96", "144", "another level"),
        ("96", "110", "96 was measured"),
        ("", "110", ""),
    ],
)
def test_a_tempo_is_compared_with_what_was_measured(measured, told, said):
    found = doubts("bpm", told, measured=measured)
    assert found.startswith(said) if said.startswith("96") else said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("measured", "told", "said"),
    [
        ("C# minor", "Db minor", ""),
        ("C major", "C major", ""),
        ("C major", "A minor", "C major was measured; A minor has the same notes"),
        ("A minor", "C major", "A minor was measured; C major has the same notes"),
        ("C major", "C minor", "C major was measured"),
        ("", "C minor", ""),
    ],
)
def test_a_key_is_compared_with_what_was_measured(measured, told, said):
    assert doubts("key", told, measured=measured) == said


def test_what_another_provider_said_is_no_measurement():
    sources = {"bpm": Source(source="gemini", kind="provider", value="96")}
    assert find_doubts(SONG, {"bpm": "150"}, sources) == {}


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("A slow song with a warm bass and 12 strings.", ""),
        ("A slow song at 96 BPM.", "'96 BPM' has a field of its own"),
        ("Björk sings over strings.", "it names the artist"),
        ("The strings of jóga live swell.", "it names the title"),
        ("Björkish strings.", ""),
    ],
)
def test_captions_name_neither_songs_nor_figures(caption, said):
    track = Track(path=Path("a.wav"), title="Jóga Live", artist="Björk")
    assert doubts("caption", caption, track=track) == said


def test_names_that_are_words_like_any_other_are_not_looked_for():
    track = Track(path=Path("a.wav"), title="Strings", artist="All")
    assert doubts("caption", "All of it is strings.", track=track) == ""


def test_lyrics_of_an_instrumental_are_doubted():
    known = Track(path=Path("a.wav"), title="a", known={"is_instrumental": "true"})
    assert doubts("lyrics", "One line", track=known) == "the song is said to be instrumental"
    assert doubts("lyrics", "One line", is_instrumental="true") == "the song is said to be instrumental"
    assert doubts("lyrics", "[Instrumental]", track=known) == ""
    assert doubts("lyrics", "One line", track=known, is_instrumental="false") == ""
