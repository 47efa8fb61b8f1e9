"""The OpenAI provider against a server that speaks chat completions, with the vendor's library in between."""

from __future__ import annotations

import base64
import io
import json
import threading

import attrs
import pytest
import soundfile
from fake_services import ANSWER, KEY, Reply, completion, never, tool_call
from sidestep_captioners.configs import OpenAIConfig
from sidestep_captioners.openai_chat import OpenAIProvider
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ProviderContract

WANTED = frozenset({"caption", "bpm"})


@pytest.fixture
def settings(openai_server):
    return OpenAIConfig(api_key=KEY, base_url=f"{openai_server.url}/v1")


@pytest.fixture
def ask(settings, track):
    """Return a function that describes a song with changed settings."""

    def describe(wanted=WANTED, song=track, cancelled=never, **changes):
        with OpenAIProvider(attrs.evolve(settings, **changes), BuildContext()) as provider:
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
    plugin, name = "sidestep_captioners.plugin", "openai"

    @pytest.fixture(autouse=True)
    def _server(self, settings):
        self.config = settings

    @pytest.fixture
    def track(self, track):
        return track


def test_the_answer_comes_by_a_forced_call_with_the_wanted_fields_only(ask, openai_server):
    found = ask()
    assert found.fields == {"caption": ANSWER["caption"], "bpm": "96"}
    assert found.source == "gpt-audio-1.5-2026-02-23"
    asked = openai_server.asked[0].json()
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "describe_song"}}
    assert asked["tools"][0]["function"]["parameters"]["required"] == ["caption", "bpm"]
    assert "response_format" not in asked


def test_the_song_goes_along_as_mono_mp3_with_256_kbit(ask, openai_server):
    ask()
    text, sound = openai_server.asked[0].json()["messages"][0]["content"]
    data = base64.b64decode(sound["input_audio"]["data"])
    heard = soundfile.info(io.BytesIO(data))
    assert sound["input_audio"]["format"] == "mp3"
    assert (heard.format, heard.channels, heard.samplerate) == ("MP3", 1, 48000)
    assert len(data) * 8 / heard.duration == pytest.approx(256_000, rel=0.05)
    assert "Jóga 日本" in text["text"]


def test_an_ogg_is_never_sent_as_ogg(ask, openai_server, track):
    path = track.path.with_suffix(".ogg")
    soundfile.write(path, soundfile.read(track.path)[0], 16000, format="OGG")
    ask(song=attrs.evolve(track, path=path))
    sound = openai_server.asked[0].json()["messages"][0]["content"][1]["input_audio"]
    assert sound["format"] == "mp3"
    assert base64.b64decode(sound["data"])[:4] != b"OggS"


def test_settings_of_the_answer_are_sent(ask, openai_server):
    ask(temperature=0.1, top_p=0.5, max_tokens=99, presence_penalty=0.2, frequency_penalty=0.3, repetition_penalty=1.2)
    asked = openai_server.asked[0].json()
    assert asked["temperature"] == 0.1
    assert asked["top_p"] == 0.5
    assert asked["max_completion_tokens"] == 99
    assert asked["presence_penalty"] == 0.2
    assert asked["frequency_penalty"] == 0.3
    assert asked["repetition_penalty"] == 1.2


def test_the_default_model_can_hear():
    assert OpenAIConfig().model == "gpt-audio-1.5"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, "key"),
        (403, {"error": {"message": "Country not supported"}}, "key"),
        (404, {"error": {"message": "The model 'x' does not exist", "code": "model_not_found"}}, "key"),
        (400, {"error": {"message": "Invalid value: 'caption'"}}, "refused"),
        (400, {"error": {"message": "This model does not support audio input."}}, "no audio"),
        (413, "too much", "too large"),
        (429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, "rate"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, "quota"),
        (500, "<html><body>oops</body></html>", "unreachable"),
        (503, "", "unreachable"),
    ],
)
def test_each_failure_has_its_kind_and_is_met_once(fail, openai_server, status, body, kind):
    openai_server.plan(body, status=status, times=5)
    error = fail()
    assert error.kind == kind
    assert str(status) in str(error)
    assert len(openai_server.asked) == 1


def test_what_the_service_asks_to_wait_is_handed_on(fail, openai_server):
    openai_server.plan({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "17"})
    assert fail().retry_after == 17


@pytest.mark.parametrize("fault", ["drop", "cut", "stall", "hang"])
def test_connections_that_break_or_hang_are_unreachable(fail, openai_server, fault):
    openai_server.plan(completion(tool_call(ANSWER)), fault=fault, times=3)
    assert fail(timeout=0.5).kind == "unreachable"
    assert len(openai_server.asked) == 1


def test_a_song_that_is_torn_on_its_way_is_unreachable(fail, openai_server, long_track):
    openai_server.torn = "/completions"
    long_track.path.write_bytes(long_track.path.read_bytes()[: 14 << 20])
    assert fail(song=long_track).kind == "unreachable"


def test_a_server_that_is_not_there_is_unreachable(fail):
    error = fail(base_url="http://127.0.0.1:9/v1")
    assert error.kind == "unreachable"
    assert "127.0.0.1:9" in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'{"choices": [', headers={"Content-Type": "application/json"}),
        Reply(body="<html>login</html>"),
        Reply(body={"object": "error"}),
        Reply(body={"choices": [None]}),
        Reply(body={"choices": "none", "model": 1}),
        Reply(body=[]),
    ],
)
def test_what_is_no_completion_is_a_bad_answer(settings, serve, track, reply):
    server = serve(lambda _: reply)
    provider = OpenAIProvider(attrs.evolve(settings, base_url=f"{server.url}/v1"), BuildContext())
    with provider, pytest.raises(ProviderError) as caught:
        provider.describe(track, WANTED, never)
    assert caught.value.kind == "bad answer"


def test_a_model_that_calls_nothing_is_read_as_text(ask, openai_server):
    openai_server.plan(completion({"content": "caption: A song.\n**bpm:** 120 BPM"}))
    assert ask().fields == {"caption": "A song.", "bpm": "120"}


def test_a_server_without_tools_is_asked_without_them_from_then_on(settings, openai_server, track):
    openai_server.plan({"error": {"message": "'tool_choice' is not supported by this model"}}, status=400)
    openai_server.plan(completion({"content": json.dumps(ANSWER)}), times=2)
    with OpenAIProvider(settings, BuildContext()) as provider:
        first, second = (provider.describe(track, WANTED, never) for _ in range(2))
    assert first.fields == second.fields == {"caption": ANSWER["caption"], "bpm": "96"}
    assert ["tools" in asked.json() for asked in openai_server.asked] == [True, False, False]


def test_an_older_server_gets_the_limit_under_its_old_name(ask, openai_server):
    error = {"message": "Unsupported parameter: 'max_completion_tokens'", "param": "max_completion_tokens"}
    openai_server.plan({"error": error}, status=400)
    ask(max_tokens=99)
    first, second = (asked.json() for asked in openai_server.asked)
    assert first["max_completion_tokens"] == second["max_tokens"] == 99
    assert "max_completion_tokens" not in second


def test_a_parameter_that_a_model_does_not_take_is_left_out(ask, openai_server):
    openai_server.plan({"error": {"message": "Unsupported value", "param": "temperature"}}, status=400)
    assert ask().fields["bpm"] == "96"
    assert "temperature" not in openai_server.asked[1].json()


def test_a_refusal_is_told_in_the_models_words(fail, openai_server):
    openai_server.plan(completion({"refusal": "I cannot help with that."}))
    error = fail()
    assert error.kind == "refused"
    assert "I cannot help with that." in str(error)


def test_a_filtered_answer_is_a_refusal(fail, openai_server):
    openai_server.plan(completion({"content": ""}, finish="content_filter"))
    assert fail().kind == "refused"


def test_an_answer_that_was_cut_off_says_so(fail, openai_server):
    openai_server.plan(completion(tool_call('{"caption": "A so'), finish="length"))
    error = fail()
    assert error.kind == "bad answer"
    assert "--max-tokens" in str(error)


def test_a_model_that_heard_nothing_fails(fail, openai_server):
    openai_server.plan(completion(tool_call(ANSWER), audio=0))
    assert fail().kind == "no audio"


def test_a_server_that_counts_nothing_is_believed(ask, openai_server):
    openai_server.plan(completion(tool_call(ANSWER), audio=None))
    assert ask().fields["bpm"] == "96"


def test_a_file_that_is_no_audio_fails_before_anybody_is_asked(fail, openai_server, track):
    track.path.write_bytes(b"not audio at all" * 99)
    assert fail().kind == "no audio"
    assert not openai_server.asked


@pytest.mark.parametrize("key", ["ключ-0123456789", "sk-é", "two words", "\x00"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(fail, openai_server, key):
    error = fail(api_key=key)
    assert error.kind == "key"
    assert key not in str(error)
    assert not openai_server.asked


def test_spaces_around_a_key_are_no_part_of_it(ask):
    assert ask(api_key=f"  {KEY}\n").fields["bpm"] == "96"


def test_a_key_is_not_shown_even_where_the_service_repeats_it(fail):
    error = fail(api_key="sk-wrong-5e4d")
    assert error.kind == "key"
    assert "Incorrect API key" in str(error)
    assert "sk-wrong-5e4d" not in str(error)


def test_openai_itself_needs_a_key(track):
    with pytest.raises(ProviderError, match="OPENAI_API_KEY") as caught, OpenAIProvider(OpenAIConfig(), BuildContext()):
        pass
    assert caught.value.kind == "key"


def test_a_server_of_ones_own_needs_none(serve, track):
    server = serve(completion(tool_call(ANSWER)))
    with OpenAIProvider(OpenAIConfig(base_url=f"{server.url}/v1"), BuildContext()) as provider:
        assert provider.describe(track, WANTED, never).fields["bpm"] == "96"


def test_a_message_of_a_server_without_a_key_is_shown_whole(serve, track):
    server = serve(lambda _: Reply(status=422, body={"error": {"message": "none of it"}}))
    provider = OpenAIProvider(OpenAIConfig(base_url=f"{server.url}/v1"), BuildContext())
    with provider, pytest.raises(ProviderError, match="none of it"):
        provider.describe(track, WANTED, never)


def test_the_address_may_stand_in_the_environment(openai_server, track, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{openai_server.url}/v1")
    with OpenAIProvider(OpenAIConfig(api_key=KEY), BuildContext()) as provider:
        assert provider.describe(track, WANTED, never).fields["bpm"] == "96"


def test_checking_costs_nothing(settings, openai_server):
    assert "gpt-audio-1.5" in OpenAIProvider(settings, BuildContext()).check()
    assert openai_server.paths == ["GET /v1/models"]


def test_checking_tells_that_a_model_is_not_there(settings):
    with pytest.raises(ProviderError, match="gpt-4o"):
        OpenAIProvider(attrs.evolve(settings, model="gpt-9"), BuildContext()).check()


def test_checking_a_wrong_key_fails(settings):
    with pytest.raises(ProviderError) as caught:
        OpenAIProvider(attrs.evolve(settings, api_key="sk-wrong"), BuildContext()).check()
    assert caught.value.kind == "key"


def test_a_server_that_lists_no_models_is_good_enough(settings, openai_server):
    openai_server.plan("no", status=404)
    assert "lists no models" in OpenAIProvider(settings, BuildContext()).check()


def test_who_stops_is_not_kept_waiting(ask, openai_server):
    with pytest.raises(Cancelled):
        ask(cancelled=lambda: True)
    assert not openai_server.asked


def test_many_threads_share_a_provider(settings, track, openai_server):
    found = []
    with OpenAIProvider(settings, BuildContext()) as provider:
        ask = lambda: found.append(provider.describe(track, WANTED, never).fields["bpm"])  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["96"] * 6
