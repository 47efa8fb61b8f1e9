"""The Gemini provider against a server that speaks its format, with the vendor's library in between."""

from __future__ import annotations

import base64
import io
import json
import threading

import attrs
import pytest
import soundfile
from fake_services import ANSWER, KEY, Reply, generated, google_error, never
from sidestep_captioners.configs import GeminiConfig
from sidestep_captioners.gemini import GeminiProvider
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ProviderContract

WANTED = frozenset({"caption", "bpm"})
NOT_BOTH = "Tool use with a response mime type: 'application/json' is unsupported"
SEARCHED = {"groundingMetadata": {"webSearchQueries": ["jóga bpm", "björk jóga key"]}}

pytestmark = pytest.mark.usefixtures("gemini_server")


@pytest.fixture
def settings():
    return GeminiConfig(api_key=KEY)


@pytest.fixture
def ask(settings, track):
    """Return a function that describes a song with changed settings."""

    def describe(wanted=WANTED, song=track, cancelled=never, **changes):
        with GeminiProvider(attrs.evolve(settings, **changes), BuildContext()) as provider:
            return provider.describe(song, wanted, cancelled)

    return describe


@pytest.fixture
def fail(ask):
    """Return a function that describes a song and returns the error."""

    def describe(**changes):
        with pytest.raises(ProviderError) as caught:
            ask(**changes)
        return caught.value

    return describe


class TestContract(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "gemini"

    @pytest.fixture(autouse=True)
    def _server(self, settings):
        self.config = settings

    @pytest.fixture
    def track(self, track):
        return track


def test_the_answer_follows_a_schema_of_the_wanted_fields(ask, gemini_server):
    found = ask()
    assert found.fields == {"caption": ANSWER["caption"], "bpm": "96"}
    assert found.source == "gemini-2.5-flash"
    settings = gemini_server.asked[0].json()["generationConfig"]
    assert settings["responseMimeType"] == "application/json"
    assert settings["responseJsonSchema"]["required"] == ["caption", "bpm"]


def test_a_short_song_goes_along_as_mono_mp3_and_nothing_is_uploaded(ask, gemini_server):
    ask()
    sound, text = gemini_server.asked[0].json()["contents"][0]["parts"]
    heard = soundfile.info(io.BytesIO(base64.urlsafe_b64decode(sound["inlineData"]["data"])))
    assert "audio/mpeg" in sound["inlineData"].values()
    assert (heard.format, heard.channels) == ("MP3", 1)
    assert "Jóga 日本" in text["text"]
    assert len(gemini_server.asked) == 1


def test_settings_of_the_answer_are_sent(ask, gemini_server):
    ask(temperature=0.1, top_p=0.5, max_tokens=99, presence_penalty=0.2, frequency_penalty=0.3)
    settings = gemini_server.asked[0].json()["generationConfig"]
    assert settings["temperature"] == 0.1
    assert settings["topP"] == 0.5
    assert settings["maxOutputTokens"] >= 99
    assert settings["presencePenalty"] == 0.2
    assert settings["frequencyPenalty"] == 0.3


def test_penalties_of_nothing_are_not_mentioned(ask, gemini_server):
    ask()
    assert not {"presencePenalty", "frequencyPenalty"} & gemini_server.asked[0].json()["generationConfig"].keys()


def test_a_long_song_is_uploaded_whole_and_deleted(ask, gemini_server, gemini, long_track):
    whole = {}
    answer = gemini_server.answer

    def keep(asked):
        whole.update({name: data for name, data in gemini.files.items() if data})
        return answer(asked)

    gemini_server.answer = keep
    assert ask(song=long_track).fields["bpm"] == "96"
    assert list(whole.values()) == [long_track.path.read_bytes()]
    assert gemini.files == {}
    assert gemini.shown == ["Ærlig талант"]


def test_a_file_that_is_not_ready_is_waited_for(ask, gemini, gemini_server, long_track):
    gemini.states = ["PROCESSING", "ACTIVE"]
    assert ask(song=long_track).fields["bpm"] == "96"
    assert sum(path.startswith("GET") and "/files/" in path for path in gemini_server.paths) == 1
    assert gemini.files == {}


def test_a_file_that_the_service_cannot_read_is_no_audio_and_deleted(fail, gemini, long_track):
    gemini.states = ["FAILED"]
    assert fail(song=long_track).kind == "no audio"
    assert gemini.files == {}


def test_a_file_is_deleted_when_the_question_fails(fail, gemini, gemini_server, long_track):
    gemini_server.plan(google_error(500, "INTERNAL", "oops"), status=500, at="generateContent")
    assert fail(song=long_track).kind == "unreachable"
    assert gemini.files == {}


def test_a_file_is_deleted_when_the_connection_breaks(fail, gemini, gemini_server, long_track):
    gemini_server.plan(fault="drop", at="generateContent")
    assert fail(song=long_track).kind == "unreachable"
    assert gemini.files == {}


def test_a_file_is_deleted_when_the_user_stops(ask, gemini, long_track):
    gemini.states = ["PROCESSING"] * 9
    asked = iter([False] * 3)
    with pytest.raises(Cancelled):
        ask(song=long_track, cancelled=lambda: next(asked, True))
    assert gemini.files == {}


def test_a_file_is_deleted_when_the_answer_to_its_upload_is_lost(fail, gemini, gemini_server, long_track):
    gemini_server.plan("", at="/upload/put", headers={"x-goog-upload-status": "active"})
    gemini_server.plan({"file": {}}, at="/upload/put", fault="cut")
    assert fail(song=long_track).kind == "unreachable"
    assert gemini.files == {}


def test_an_upload_that_breaks_off_never_becomes_a_question(fail, gemini_server, long_track):
    gemini_server.plan(fault="drop", at="/upload/put")
    assert fail(song=long_track).kind == "unreachable"
    assert not any("generateContent" in path for path in gemini_server.paths)


def test_an_upload_that_is_torn_is_deleted_and_never_becomes_a_question(fail, gemini, gemini_server, long_track):
    gemini_server.torn = "/upload/put"
    assert fail(song=long_track).kind == "unreachable"
    assert gemini.files == {}
    assert not any("generateContent" in path for path in gemini_server.paths)


def test_an_upload_that_is_refused_is_not_repeated(fail, gemini_server, long_track):
    gemini_server.plan(google_error(503, "UNAVAILABLE", "later"), status=503, at="/upload/put", times=9)
    assert fail(song=long_track).kind == "unreachable"
    assert sum("/upload/put" in path for path in gemini_server.paths) == 1
    assert not any("generateContent" in path for path in gemini_server.paths)


def test_an_upload_without_a_place_is_a_bad_answer(fail, gemini_server, long_track):
    gemini_server.plan({}, at="/upload")
    assert fail(song=long_track).kind == "bad answer"


def test_a_file_that_could_not_be_deleted_is_told(ask, gemini_server, long_track):
    gemini_server.plan(google_error(500, "INTERNAL", "oops"), status=500, at="v1/files/")
    gemini_server.plan(google_error(500, "INTERNAL", "oops"), status=500, at="v1beta/files/")
    assert "could not be deleted" in ask(song=long_track).doubts[0]


DAILY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}
SPENT = "You exceeded your current quota, please check your plan and billing details."


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, google_error(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}), "key"),
        (400, google_error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "key"),
        (400, google_error(400, "INVALID_ARGUMENT", "bad schema"), "refused"),
        (403, google_error(403, "PERMISSION_DENIED", "no"), "key"),
        (404, google_error(404, "NOT_FOUND", "models/x is not found"), "key"),
        (429, google_error(429, "RESOURCE_EXHAUSTED", SPENT, MINUTE), "rate"),
        (429, google_error(429, "RESOURCE_EXHAUSTED", SPENT, DAILY), "quota"),
        (500, google_error(500, "INTERNAL", "oops"), "unreachable"),
        (503, "overloaded", "unreachable"),
    ],
)
def test_each_failure_has_its_kind_and_is_met_once(fail, gemini_server, status, body, kind):
    gemini_server.plan(body, status=status, times=5)
    error = fail()
    assert error.kind == kind
    assert str(status) in str(error)
    assert len(gemini_server.asked) == 1


def test_what_the_service_asks_to_wait_is_handed_on(fail, gemini_server):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36.5s"}
    gemini_server.plan(google_error(429, "RESOURCE_EXHAUSTED", SPENT, MINUTE, info), status=429)
    assert fail().retry_after == 36.5


def test_a_header_that_asks_to_wait_counts_too(fail, gemini_server):
    gemini_server.plan(google_error(429, "RESOURCE_EXHAUSTED", SPENT), status=429, headers={"Retry-After": "4"})
    assert fail().retry_after == 4


@pytest.mark.parametrize("fault", ["drop", "cut", "stall", "hang"])
def test_connections_that_break_or_hang_are_unreachable(fail, gemini_server, fault):
    gemini_server.plan(generated(json.dumps(ANSWER)), fault=fault, times=3)
    assert fail(timeout=0.5).kind == "unreachable"
    assert len(gemini_server.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'{"candidates": [', headers={"Content-Type": "application/json"}),
        Reply(body="<html>login</html>"),
        Reply(body={}),
        Reply(body=generated("nothing of use here")),
        Reply(body=generated("")),
        Reply(body=[]),
    ],
)
def test_what_is_no_answer_is_a_bad_answer(fail, gemini_server, reply):
    gemini_server.answer = lambda _: reply
    assert fail().kind == "bad answer"


def test_broken_json_is_still_read_for_what_it_holds(ask, gemini_server):
    gemini_server.plan(generated("caption: A song.\nbpm: 120.5"))
    assert ask().fields == {"caption": "A song.", "bpm": "120.5"}


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "LANGUAGE"])
def test_a_refusal_is_named(fail, gemini_server, reason):
    gemini_server.plan(generated("", finish=reason))
    error = fail()
    assert error.kind == "refused"
    assert reason in str(error)


def test_a_question_that_is_blocked_is_a_refusal(fail, gemini_server):
    gemini_server.plan({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
    error = fail()
    assert error.kind == "refused"
    assert "PROHIBITED_CONTENT" in str(error)


def test_an_answer_that_was_cut_off_says_so(fail, gemini_server):
    gemini_server.plan(generated('{"caption": "A so', finish="MAX_TOKENS"))
    error = fail()
    assert error.kind == "bad answer"
    assert "--max-tokens" in str(error)


def test_a_model_that_heard_nothing_fails(fail, gemini_server):
    gemini_server.plan(generated(json.dumps(ANSWER), audio=0))
    assert fail().kind == "no audio"


def test_a_file_that_is_no_audio_never_becomes_a_question_of_text_alone(fail, gemini_server, track):
    track.path.write_bytes(b"not audio at all" * 99)
    assert fail().kind == "no audio"
    assert not gemini_server.asked


def test_nothing_is_searched_for_by_default(ask, gemini_server):
    ask()
    assert "tools" not in gemini_server.asked[0].json()


def test_a_2_model_that_searches_is_asked_without_a_schema(ask, gemini_server):
    gemini_server.plan(generated("caption: A song.\nbpm: 96", **SEARCHED))
    found = ask(google_search=True)
    asked = gemini_server.asked[0].json()
    assert asked["tools"] == [{"googleSearch": {}}]
    assert "responseJsonSchema" not in asked["generationConfig"]
    assert found.fields == {"caption": "A song.", "bpm": "96"}
    assert found.source == "gemini-2.5-flash, searched: jóga bpm; björk jóga key"


def test_a_3_model_searches_and_follows_the_schema(ask, gemini_server):
    ask(google_search=True, model="gemini-3-flash-preview")
    asked = gemini_server.asked[0].json()
    assert asked["tools"] == [{"googleSearch": {}}]
    assert "responseJsonSchema" in asked["generationConfig"]


def test_a_model_that_turns_out_to_take_one_only_is_asked_again_once(settings, gemini_server, track):
    gemini_server.plan(google_error(400, "INVALID_ARGUMENT", NOT_BOTH), status=400)
    with GeminiProvider(attrs.evolve(settings, google_search=True, model="other-4"), BuildContext()) as provider:
        found = [provider.describe(track, WANTED, never).fields["bpm"] for _ in range(2)]
    with_schema = ["responseJsonSchema" in asked.json()["generationConfig"] for asked in gemini_server.asked]
    assert found == ["96", "96"]
    assert with_schema == [True, False, False]


@pytest.mark.parametrize("key", ["ключ-0123456789", "two words", "", None])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(fail, gemini_server, key):
    error = fail(api_key=key)
    assert error.kind == "key"
    assert "ключ" not in str(error)
    assert not gemini_server.asked


def test_spaces_around_a_key_are_no_part_of_it(ask):
    assert ask(api_key=f"  {KEY}\n").fields["bpm"] == "96"


def test_checking_costs_nothing(settings, gemini_server):
    assert "gemini-2.5-flash" in GeminiProvider(settings, BuildContext()).check()
    assert [path.split("/v1")[0] for path in gemini_server.paths] == ["GET "]
    assert gemini_server.paths[0].endswith("/models/gemini-2.5-flash")


def test_checking_a_wrong_key_fails_without_showing_it(settings):
    with pytest.raises(ProviderError) as caught:
        GeminiProvider(attrs.evolve(settings, api_key="AIza-wrong-5e4d"), BuildContext()).check()
    assert caught.value.kind == "key"
    assert "5e4d" not in str(caught.value)


def test_no_other_google_account_of_the_machine_is_used(ask, gemini_server, monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "other")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    ask()
    assert gemini_server.asked[0].headers["x-goog-api-key"] == KEY


def test_many_threads_share_a_provider(settings, track):
    found = []
    with GeminiProvider(settings, BuildContext()) as provider:
        ask = lambda: found.append(provider.describe(track, WANTED, never).fields["bpm"])  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["96"] * 6
