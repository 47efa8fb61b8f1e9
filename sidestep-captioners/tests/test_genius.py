"""The Genius provider against a server that speaks its format: search, facts, page."""

from __future__ import annotations

import json

import attrs
import pytest
from fake_services import KEY, never, song
from sidestep_captioners.configs import GeniusConfig
from sidestep_captioners.genius import GeniusProvider
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.interfaces import Track
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ProviderContract

LYRICS = frozenset({"lyrics"})
TEXT = """[Verse 1]
All these accidents
That happen
Follow the dots & lines

[Chorus]
Emotional landscapes

[Bridge]
Lyrics of my own
State of emergency"""


@pytest.fixture
def settings(genius_server):
    return GeniusConfig(token=KEY, api_url=genius_server.url, web_url=genius_server.url)


@pytest.fixture
def ask(settings, tmp_path):
    """Return a function that looks a song up."""

    def describe(title="Jóga", artist="Björk", wanted=LYRICS, cancelled=never, **changes):
        track = Track(path=tmp_path / "none.wav", title=title, artist=artist)
        with GeniusProvider(attrs.evolve(settings, **changes), BuildContext()) as provider:
            return provider.describe(track, wanted, cancelled)

    return describe


@pytest.fixture
def fail(ask):
    """Return a function that looks a song up and returns the error."""

    def describe(*args, **changes):
        with pytest.raises(ProviderError) as caught:
            ask(*args, **changes)
        return caught.value

    return describe


class TestContract(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "genius"
    hears = False

    @pytest.fixture(autouse=True)
    def _server(self, settings, genius):
        genius.songs = [song("Überraschung", "Åse")]
        self.config = settings


def test_the_lyrics_are_read_off_the_page(ask, genius_server):
    found = ask()
    assert found.fields == {"lyrics": TEXT}
    assert found.confidence == {"lyrics": "high"}
    assert found.source == f"{genius_server.url}/7-lyrics (1.00)"
    assert found.doubts == ()


def test_language_and_instrumental_are_asked_for_only_where_wanted(ask, genius_server):
    assert ask(wanted=frozenset({"lyrics", "language", "is_instrumental"})).fields == {
        "lyrics": TEXT,
        "language": "en",
        "is_instrumental": "false",
    }
    assert genius_server.paths == ["GET /search", "GET /songs/7", "GET /7-lyrics"]


def test_the_search_is_made_with_accents_and_without_additions(ask, genius_server):
    ask("Jóga (Live at Cambridge) - Remastered 2011")
    assert genius_server.asked[0].query == {"q": "Björk Jóga"}


@pytest.mark.parametrize(
    ("artist", "known"),
    [
        ("Björk", "Björk"),
        ("Bjork", "Björk"),
        ("Beyoncé", "Beyoncé"),
        ("BEYONCE", "Beyoncé"),
        ("Sigur Rós", "Sigur Ros"),
        ("Mø", "MØ"),
        ("Motörhead", "Motorhead"),
        ("Björk feat. Arca", "Björk"),
        ("Björk", "Björk & Arca"),
        ("米津玄師", "米津玄師 (Kenshi Yonezu)"),
        ("Kenshi Yonezu", "米津玄師 (Kenshi Yonezu)"),
        ("Земфира", "Земфира (Zemfira)"),
    ],
)
def test_artists_with_accents_and_guests_are_found(ask, genius, artist, known):
    genius.songs = [song("Jóga", known)]
    assert ask("Jóga", artist).confidence == {"lyrics": "high"}


def test_letters_that_are_not_latin_stay_in_the_question(ask, genius, genius_server):
    genius.songs = [song("Lemon / レモン", "米津玄師")]
    ask("Lemon レモン", "米津玄師")
    assert genius_server.asked[0].query == {"q": "米津玄師 Lemon レモン"}


@pytest.mark.parametrize(("title", "artist"), [("Jóga", "Queen"), ("Army of Me", "Björk"), ("Something", "Nobody")])
def test_another_song_is_refused(fail, title, artist):
    assert str(fail(title, artist)) == "Genius does not know the song"


def test_a_song_that_is_nearly_the_same_is_named(fail, genius):
    genius.songs = [song("Jogging", "Björk")]
    error = fail()
    assert error.kind == "not found"
    assert "the nearest is 'Björk - Jogging'" in str(error)


def test_the_same_title_by_another_artist_is_passed_over(ask, genius):
    genius.songs = [song("Jóga", "Somebody Else", 1), song("Jóga", "Björk", 2)]
    assert "/2-lyrics" in ask().source


def test_the_song_itself_comes_before_its_live_version(ask, genius):
    genius.songs = [song("Jóga (Live)", "Björk", 1), song("Jóga", "Björk", 2)]
    assert "/2-lyrics" in ask().source


def test_translations_are_no_songs(fail, genius):
    genius.songs = [song("Jóga", "Genius English Translations"), song("", "Björk"), {"title": "Jóga"}]
    assert fail("Jóga", "").kind == "not found"


def test_without_an_artist_nobody_is_sure(ask):
    found = ask("Jóga", "")
    assert found.confidence == {"lyrics": "low"}
    assert "Björk - Jóga" in found.doubts[0]


def test_without_an_artist_the_title_must_be_the_same_still(fail):
    assert fail("Goodbye", "").kind == "not found"


def test_a_threshold_of_the_users_own_holds(ask, fail, genius):
    genius.songs = [song("Jogaa", "Björk")]
    assert ask().confidence == {"lyrics": "medium"}
    assert fail(least_score=0.99).kind == "not found"


def test_a_search_without_hits_is_made_in_other_words(fail, genius, genius_server):
    genius.songs = []
    assert fail("Jóga", "Björk").kind == "not found"
    assert [asked.query["q"] for asked in genius_server.asked] == ["Björk Jóga", "bjork joga", "Jóga"]


def test_a_page_with_its_lyrics_in_the_state_only(ask, genius):
    html = '<p>[Verse 1: Björk]<br>It\\\'s "so" quiet<br>\\\\o/</p><p>[Chorus]<br>Boom</p>'.replace("\\'", "'")
    state = json.dumps({"songPage": {"lyricsData": {"body": {"html": html}}}})
    escaped = state.replace("\\", "\\\\").replace("'", "\\'")
    genius.page = f"<script>window.__PRELOADED_STATE__ = JSON.parse('{escaped}');</script>"
    assert ask().fields["lyrics"] == '[Verse 1]\nIt\'s "so" quiet\n\\\\o/\n\n[Chorus]\nBoom'


def test_an_instrumental_is_known_by_its_page(ask, genius):
    genius.page = '<div data-lyrics-container="true">[Instrumental]</div>'
    assert ask(wanted=LYRICS | {"is_instrumental"}).fields["is_instrumental"] == "true"
    assert ask().fields == {}


def test_a_page_without_lyrics_is_not_found(fail, genius):
    genius.page = "<html><body>Lyrics for this song have yet to be released.</body></html>"
    assert fail().kind == "not found"


@pytest.mark.parametrize(
    ("status", "at", "kind"),
    [
        (401, "/search", "key"),
        (429, "/search", "rate"),
        (500, "/search", "unreachable"),
        (403, "-lyrics", "refused"),
        (404, "-lyrics", "not found"),
        (429, "-lyrics", "rate"),
        (503, "-lyrics", "unreachable"),
    ],
)
def test_each_failure_has_its_kind_and_is_met_once(fail, genius_server, status, at, kind):
    genius_server.plan({"error": "no"}, status=status, at=at, headers={"Retry-After": "3"}, times=5)
    error = fail()
    assert error.kind == kind
    assert error.retry_after == (3 if kind in ("rate", "unreachable") else None)
    assert sum(at in asked.path for asked in genius_server.asked) == 1


@pytest.mark.parametrize("fault", ["drop", "cut", "stall", "hang"])
@pytest.mark.parametrize("at", ["/search", "-lyrics"])
def test_connections_that_break_or_hang_are_unreachable(fail, genius_server, fault, at):
    genius_server.plan({"response": {"hits": []}}, fault=fault, at=at)
    assert fail(timeout=0.5).kind == "unreachable"


@pytest.mark.parametrize("body", ["<html>", "{", {"response": {}}, {"response": None}, {"response": {"hits": 3}}, []])
def test_a_search_that_answers_something_else_is_a_bad_answer(fail, genius_server, body):
    genius_server.plan(body, at="/search")
    assert fail().kind == "bad answer"


def test_the_token_goes_to_the_interface_and_not_to_pages(ask, genius_server):
    ask()
    search, page = genius_server.asked
    assert search.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in page.headers


def test_a_page_somewhere_else_is_not_gone_to(fail, genius, genius_server):
    genius.songs = [song("Jóga", "Björk", path="//evil.invalid/lyrics"), song("Jóga", "Björk", path="evil")]
    assert fail().kind == "not found"


def test_a_redirected_page_is_followed(ask, genius_server):
    genius_server.plan(status=301, at="/7-lyrics", headers={"Location": "/Bjork-joga-lyrics"})
    assert ask().fields["lyrics"] == TEXT


@pytest.mark.parametrize("token", [None, "", "   ", "tökén", "a b", "right\x7f"])
def test_a_token_that_cannot_be_one_is_refused(fail, genius_server, token):
    assert fail(token=token).kind == "key"
    assert not genius_server.asked


def test_the_check_finds_a_good_token_good(settings, genius_server):
    assert "knows the token" in GeniusProvider(settings, BuildContext()).check()
    assert genius_server.paths == ["GET /search"]


def test_the_check_finds_a_garbage_token_bad_and_does_not_show_it(settings):
    provider = GeniusProvider(attrs.evolve(settings, token="garbage-5e4d"), BuildContext())
    with pytest.raises(ProviderError) as caught:
        provider.check()
    assert caught.value.kind == "key"
    assert "garbage" not in str(caught.value)


def test_spaces_around_a_token_are_no_part_of_it(ask):
    assert ask(token=f" {KEY}\r\n").fields


def test_who_stops_is_not_kept_waiting(ask, genius_server):
    with pytest.raises(Cancelled):
        ask(cancelled=lambda: True)
    assert not genius_server.asked


def test_an_endless_page_is_given_up(fail, genius_server):
    genius_server.plan(b"x" * (33 << 20), at="-lyrics")
    assert fail().kind == "bad answer"
