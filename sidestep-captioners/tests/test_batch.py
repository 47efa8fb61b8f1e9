"""Folders of songs described by these providers through the toolkit: the job, the SDKs and the servers together."""

from __future__ import annotations

import pytest
from fake_services import ANSWER, KEY, completion, google_error, song, tool_call
from sidestep_captioners import plugin
from sidestep_captioners.configs import GeminiConfig, GeniusConfig, OpenAIConfig, TranscriberConfig
from sidestep_core.builtins import plugin as builtins
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.request import DescribeRequest
from sidestep_core.errors import LoadError
from sidestep_core.events import DescribeFinished, Notice
from sidestep_core.requests import Choice
from sidestep_core.sidecars import read_sidecar
from sidestep_core.testing.providers import write_tone
from sidestep_core.toolkit import Toolkit


@pytest.fixture
def songs(tmp_path):
    for number in range(6):
        write_tone(tmp_path / f"Björk - Jóga {number}.wav", seconds=1.0)
    return tmp_path


@pytest.fixture
def describe(songs):
    """Return a function that describes the songs and returns all events, the last one first."""

    def run(**parts):
        choices = {part: Choice(name=name, config=config) for part, (name, config) in parts.items()}
        request = DescribeRequest(config=CaptionsConfig(audio_dir=songs, workers=3), **choices)
        toolkit = Toolkit(plugins={"core": builtins, "captioners": plugin}, entry_points=False)
        return list(toolkit.describe(request))[::-1]

    return run


@pytest.fixture
def openai(openai_server):
    return "openai", OpenAIConfig(api_key=KEY, base_url=f"{openai_server.url}/v1")


def sidecars(songs):
    return [read_sidecar(path) for path in sorted(songs.glob("*.wav"))]


def test_captions_metadata_and_lyrics_come_from_three_services(describe, songs, openai, genius_server, genius):
    genius.songs = [song(f"Jóga {number}", "Björk", number) for number in range(6)]
    address = genius_server.url
    done, *_ = describe(provider=openai, lyrics=("genius", GeniusConfig(token=KEY, api_url=address, web_url=address)))
    assert (done.written, done.failed) == (6, 0)
    for found in sidecars(songs):
        assert found.caption == ANSWER["caption"]
        assert (found.genre, found.bpm, found.key, found.signature) == ("folk, indie", "96", "C minor", "4/4")
        assert found.lyrics.startswith("[Verse 1]\nAll these accidents")


def test_what_is_known_is_not_asked_again(describe, openai, openai_server):
    describe(provider=openai)
    asked = len(openai_server.asked)
    done, *_ = describe(provider=openai)
    assert isinstance(done, DescribeFinished)
    assert len(openai_server.asked) == asked == 6


def test_a_service_that_is_busy_is_asked_again_after_the_time_it_names(describe, openai, openai_server):
    openai_server.plan({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"}, times=2)
    done, *events = describe(provider=openai)
    assert (done.written, done.failed) == (6, 0)
    assert sum(isinstance(event, Notice) for event in events) == 2
    assert len(openai_server.asked) == 8


def test_a_wrong_key_ends_the_batch_and_is_not_asked_for_each_song(describe, openai_server):
    config = OpenAIConfig(api_key="sk-wrong-5e4d", base_url=f"{openai_server.url}/v1")
    done, *events = describe(provider=("openai", config))
    assert "Incorrect API key" in done.ended
    assert done.written == 0
    assert len(openai_server.asked) <= 3
    assert "sk-wrong-5e4d" not in repr([done, *events])


def test_one_refused_song_costs_no_other(describe, openai, openai_server):
    openai_server.plan(completion({"refusal": "I will not."}))
    done, *_ = describe(provider=openai)
    assert (done.written, done.failed) == (5, 1)
    assert "I will not." in "".join(event.problem for event in done.songs)


def test_a_daily_quota_ends_the_batch(describe, gemini_server):
    spent = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    gemini_server.plan(google_error(429, "RESOURCE_EXHAUSTED", "quota", spent), status=429, times=6)
    done, *_ = describe(provider=("gemini", GeminiConfig(api_key=KEY)))
    assert "429" in done.ended
    assert done.written == 0


def test_songs_that_genius_does_not_know_are_no_failures(describe, openai, genius_server, songs):
    config = GeniusConfig(token=KEY, api_url=genius_server.url, web_url=genius_server.url, least_score=1.0)
    done, *_ = describe(lyrics=("genius", config))
    assert done.failed == 0
    assert all(found is None or not found.lyrics for found in sidecars(songs))


def test_a_transcriber_gets_every_song_as_a_file(describe, serve, songs):
    server = serve({"segments": [{"text": "One line of it", "start": 0, "end": 1}], "language": "en"})
    done, *_ = describe(lyrics=("transcriber_server", TranscriberConfig(url=server.url)))
    assert done.written == 6
    assert all(len(asked.form()["file"][2]) > 1000 for asked in server.asked)
    assert {found.lyrics for found in sidecars(songs)} == {"One line of it"}


def test_a_key_from_the_environment_is_found(describe, openai_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{openai_server.url}/v1")
    done, *_ = describe(provider=("openai", None))
    assert done.written == 6


def test_a_library_that_is_missing_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr("sidestep_core.specs._installed", lambda name: name != "openai")
    spec = next(spec for spec in plugin.sidestep_providers() if spec.name == "openai")
    with pytest.raises(LoadError, match=r"needs openai: pip install 'sidestep-captioners\[openai\]'"):
        spec.load()


def test_a_completion_that_names_unwanted_fields_gives_none_of_them(describe, openai, openai_server, songs):
    openai_server.plan(completion(tool_call({**ANSWER, "lyrics": "made up"})), times=6)
    describe(provider=openai)
    assert not any(found.lyrics for found in sidecars(songs))
