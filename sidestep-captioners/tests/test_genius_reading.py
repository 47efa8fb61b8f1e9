"""Comparing names and reading pages, as Genius needs it."""

from __future__ import annotations

import pytest
from fake_services import PAGE
from sidestep_captioners.genius_match import bare_title, fold, match_score
from sidestep_captioners.genius_page import clean_header, page_lyrics


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Beyoncé", "beyonce"),
        ("BJÖRK", "bjork"),
        ("Mø & Łona", "mo lona"),
        ("Straße", "strasse"),
        ("Đorđe", "dorde"),
        ("AC/DC", "ac dc"),
        ("P!nk", "p nk"),
        ("Ｆｕｌｌ", "full"),
        ("Ænima", "aenima"),
        ("!!!", ""),
    ],
)
def test_names_are_folded(text, folded):
    assert fold(text) == folded


def test_names_of_signs_alone_are_compared_as_they_are():
    assert match_score("Must Be the Moon", "!!!", "Must Be the Moon", ["!!!"]) == 1
    assert match_score("Must Be the Moon", "!!!", "Must Be the Moon", ["???"]) < 0.8


def test_what_is_composed_and_what_is_not_are_one():
    assert fold("é") == fold("e\u0301")
    assert fold("ガ") == fold("カ\u3099")


@pytest.mark.parametrize(
    ("title", "bare"),
    [
        ("Song (Live at X) [Remix]", "Song"),
        ("Song feat. Somebody", "Song"),
        ("Song ft Somebody", "Song"),
        ("Song - Remastered 2011", "Song"),
        ("Song – Live", "Song"),
        ("Love - Hate", "Love - Hate"),
        ("(I Can't Get No) Satisfaction", "Satisfaction"),
        ("夜に駆ける（アカペラ）", "夜に駆ける"),
        ("(Live)", "(Live)"),
        ("Left", "Left"),
        ("Fantastic", "Fantastic"),
    ],
)
def test_a_title_loses_its_additions(title, bare):
    assert bare_title(title) == bare


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("Halo", "Beyonce"), ("Halo", "Beyoncé")),
        (("Halo (Live)", "Beyoncé"), ("Halo", "Beyoncé")),
        (("Umbrella", "Rihanna feat. Jay-Z"), ("Umbrella", "Rihanna")),
        (("Under Pressure", "Queen & David Bowie"), ("Under Pressure", "Queen")),
        (("Hello", "adele"), ("HELLO!", "Adele")),
        (("Скажите, девушки", "Сергей Лемешев"), ("Скажите, девушки", "Сергей Лемешев (Sergei Lemeshev)")),
        (("Satisfaction", "The Rolling Stones"), ("(I Can't Get No) Satisfaction", "The Rolling Stones")),
    ],
)
def test_the_same_song_is_known(mine, theirs):
    assert match_score(*mine, theirs[0], [theirs[1]]) >= 0.95


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("Hello", "Adele"), ("Hello", "Lionel Richie")),
        (("Hello", "Adele"), ("Skyfall", "Adele")),
        (("Halo", "Beyoncé"), ("Halo 2 Theme", "Beyoncé")),
        (("Hello", ""), ("Goodbye", "Anybody")),
        (("Hello", "Adele"), ("Hello", "")),
        (("", "Adele"), ("Hello", "Adele")),
        (("!!!", "!!!"), ("Hello", "Adele")),
    ],
)
def test_another_song_is_not(mine, theirs):
    assert match_score(*mine, theirs[0], [theirs[1]]) < 0.8


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("[Verse 1: Name]", "[Verse 1]"),
        ("[Chorus - Name & Other]", "[Chorus]"),
        ("[Bridge (Name)]", "[Bridge]"),
        ("[Pre-Chorus: A, B]", "[Pre-Chorus]"),
        ("[Pre-Chorus]", "[Pre-Chorus]"),
        ("[Part I, II]", "[Part I, II]"),
        ("[Куплет 1: Земфира]", "[Куплет 1]"),
        ("[Припев — Имя]", "[Припев]"),
        ("[サビ：名前]", "[サビ]"),
        ("[Refrain – Ä]", "[Refrain]"),
        ("[?]", "[?]"),
        ("[: x]", "[: x]"),
        ("I said [what]", "I said [what]"),
        ("No header: here", "No header: here"),
        ("", ""),
    ],
)
def test_a_section_is_headed_by_its_label(line, clean):
    assert clean_header(line) == clean


@pytest.mark.parametrize("line", ["[Текст песни «Имя»]", '[Letra de "X"]', "[Paroles de X ft. Y]", "[Songtext zu X]"])
def test_a_header_that_names_the_song_goes(line):
    assert clean_header(line) is None


def test_what_is_no_part_of_the_lyrics_is_left_out():
    found = page_lyrics(PAGE)
    assert "Contributors" not in found
    assert "Jóga Lyrics" not in found
    assert "also like" not in found
    assert "alert" not in found


def test_a_first_line_that_speaks_of_lyrics_is_kept():
    page = '<div data-lyrics-container="true">Lyrics are all I have<br>And a tune</div>'
    assert page_lyrics(page) == "Lyrics are all I have\nAnd a tune"


def test_a_last_line_that_ends_in_embed_is_kept():
    page = '<div data-lyrics-container="true">One<br>The stars we embed</div>'
    assert page_lyrics(page) == "One\nThe stars we embed"


def test_what_older_pages_put_around_the_lyrics_goes():
    lines = ("12 Contributors Jóga Lyrics", "One", "Two", "You might also like", "3Embed")
    page = f'<div data-lyrics-container="true">{"<br>".join(lines)}</div>'
    assert page_lyrics(page) == "One\nTwo"


def test_scripts_within_the_lyrics_are_neither_run_nor_shown():
    page = (
        '<div data-lyrics-container="true">One<script>document.write("no<br>")</script><br>Two<style>a{}</style></div>'
    )
    assert page_lyrics(page) == "One\nTwo"


def test_signs_of_html_are_read():
    page = '<div data-lyrics-container="true">Rock &amp; roll &#39;n&#39; &lt;3<br/>caf&eacute;</div>'
    assert page_lyrics(page) == "Rock & roll 'n' <3\ncafé"


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>",
        "<div data-lyrics-container='true'>",
        "<script>window.__PRELOADED_STATE__ = JSON.parse('{broken');</script>",
        "<script>window.__PRELOADED_STATE__ = JSON.parse('[1]');</script>",
        "</div></div></br>",
    ],
)
def test_a_page_without_lyrics_has_none(page):
    assert page_lyrics(page) == ""
