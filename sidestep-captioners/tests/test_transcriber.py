"""The transcription-server provider over real sockets."""

from __future__ import annotations

import io
import json
import threading

import attrs
import numpy as np
import pytest
import soundfile
from fake_services import Reply, never
from sidestep_captioners.configs import TranscriberConfig
from sidestep_captioners.places import own_folder
from sidestep_captioners.transcriber import TranscriberProvider
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.settings import DATA_VARIABLE
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ProviderContract
from tiny_demucs import write_tiny_demucs

LYRICS = frozenset({"lyrics"})
TEXT = "[Verse]\nOne line\nAnother line"


@pytest.fixture
def server(serve):
    return serve({"lyrics": TEXT, "language": "no"})


@pytest.fixture
def ask(server, track):
    """Return a function that has a song written down."""

    def describe(wanted=LYRICS, song=track, cancelled=never, **changes):
        config = TranscriberConfig(**{"url": server.url, **changes})
        with TranscriberProvider(config, BuildContext()) as provider:
            return provider.describe(song, wanted, cancelled)

    return describe


@pytest.fixture
def fail(ask):
    """Return a function that has a song written down and returns the error."""

    def describe(**changes):
        with pytest.raises(ProviderError) as caught:
            ask(**changes)
        return caught.value

    return describe


class TestContract(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "transcriber_server"

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.config = TranscriberConfig(url=server.url)

    @pytest.fixture
    def track(self, track):
        return track


def test_the_song_and_its_names_arrive_as_a_form(ask, server):
    found = ask(wanted=frozenset({"lyrics", "language"}))
    assert found.fields == {"lyrics": TEXT, "language": "no"}
    form = server.asked[0].form()
    name, kind, data = form.pop("file")
    assert form == {"mode": "lyrics", "title": "Jóga 日本", "artist": "Björk"}
    assert (name, kind) == ("song.mp3", "audio/mpeg")
    assert soundfile.info(io.BytesIO(data)).channels == 1


def test_an_mp3_passes_as_it_is(ask, server, track, mp3):
    path = track.path.with_suffix(".mp3")
    path.write_bytes(mp3)
    ask(song=attrs.evolve(track, path=path))
    assert server.asked[0].form()["file"][2] == mp3


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("", "/transcribe"),
        ("/", "/transcribe"),
        ("/api/", "/api/transcribe"),
        ("/transcribe", "/transcribe"),
        ("/v2/lyrics", "/v2/lyrics"),
        ("/predict", "/predict"),
        ("/infer/", "/infer"),
    ],
)
def test_a_path_that_names_the_task_is_kept(ask, server, address, path):
    ask(url=server.url + address)
    assert server.asked[0].path == path


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "key"), (404, "key"), (413, "too large"), (422, "refused"), (429, "rate"), (500, "unreachable")],
)
def test_each_failure_has_its_kind_and_is_met_once(fail, server, status, kind):
    server.plan({"detail": "no such thing"}, status=status, times=5)
    error = fail()
    assert error.kind == kind
    assert "no such thing" in str(error)
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", ["drop", "cut", "stall", "hang"])
def test_connections_that_break_or_hang_are_unreachable(fail, server, fault):
    server.plan({"lyrics": TEXT}, fault=fault)
    assert fail(timeout=0.5).kind == "unreachable"


def test_a_server_that_hangs_up_in_the_middle_of_a_song_is_unreachable(fail, server, long_track):
    server.torn = "/transcribe"
    assert fail(song=long_track).kind == "unreachable"


def test_a_server_that_dribbles_is_not_waited_for_without_end(fail, server, monkeypatch):
    # the clock jumps: no piece is late, all of them together are
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr("sidestep_captioners.http.time.monotonic", lambda: float(next(clock)))
    assert fail(timeout=30.0).kind == "unreachable"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'{"lyrics": ', headers={"Content-Type": "application/json"}),
        Reply(body=b"<html>login</html>", headers={"Content-Type": "text/html"}),
        Reply(body={"status": "done"}),
        Reply(body={"lyrics": 3}),
        Reply(body={"error": "model not loaded"}),
        Reply(body=[1, 2]),
    ],
)
def test_what_holds_no_lyrics_is_a_bad_answer(fail, server, reply):
    server.answer = lambda _: reply
    assert fail().kind == "bad answer"


def test_a_redirection_does_not_carry_the_song_elsewhere(fail, server):
    server.plan(status=307, headers={"Location": "http://other.invalid/transcribe"})
    assert fail().kind == "refused"
    assert len(server.asked) == 1


def test_a_song_without_words_has_an_answer_of_none(ask, server):
    server.plan({"lyrics": ""})
    assert ask().fields == {}


def test_plain_text_is_an_answer(ask, server):
    server.plan("One line\nAnother line")
    assert ask().fields == {"lyrics": "One line\nAnother line"}


def test_text_in_another_encoding_is_read_by_what_the_server_says(ask, server):
    server.plan("Één lied\nén nog een".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"})
    assert ask().fields["lyrics"] == "Één lied\nén nog een"


def test_a_file_that_is_not_there_is_no_audio(fail, server, track):
    error = fail(song=attrs.evolve(track, path=track.path.with_name("gone.wav")))
    assert error.kind == "no audio"
    assert "gone.wav" in str(error)
    assert not server.asked


@pytest.mark.parametrize("url", [None, "", " ", "localhost:80", "ftp://x", "http://", "http://x:port", "http://["])
def test_an_address_that_is_none_is_said_at_once(fail, url):
    assert fail(url=url).kind == "key"


def test_checking_sends_no_song(server):
    line = TranscriberProvider(TranscriberConfig(url=server.url), BuildContext()).check()
    assert line == f"{server.url.removeprefix('http://')} answers"
    assert server.paths == ["GET /"]
    assert server.asked[0].body == b""


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_a_front_page_is_there_all_the_same(server, status):
    server.plan(status=status)
    assert "answers" in TranscriberProvider(TranscriberConfig(url=server.url), BuildContext()).check()


def test_checking_a_server_that_is_not_there_fails():
    with pytest.raises(ProviderError) as caught:
        TranscriberProvider(TranscriberConfig(url="http://127.0.0.1:9"), BuildContext()).check()
    assert caught.value.kind == "unreachable"


def test_who_stops_while_an_answer_comes_in_is_not_kept_waiting(ask):
    asked = iter([False] * 2)
    with pytest.raises(Cancelled):
        ask(cancelled=lambda: next(asked, True))


def test_many_threads_share_a_provider(server, track):
    server.answer = lambda asked: Reply(body={"lyrics": f"Sung:\n{asked.form()['title']}"})
    found = {}
    with TranscriberProvider(TranscriberConfig(url=server.url), BuildContext()) as provider:

        def ask(title):
            found[title] = provider.describe(attrs.evolve(track, title=title), LYRICS, never).fields["lyrics"]

        threads = [threading.Thread(target=ask, args=(f"song {number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {f"song {number}": f"Sung:\nsong {number}" for number in range(8)}


def test_nested_json_is_unwrapped(ask, server):
    server.plan({"data": [{"output": json.dumps({"result": {"lyrics": TEXT}})}]})
    assert ask().fields == {"lyrics": TEXT}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return where weights of Demucs are looked for; there are none elsewhere."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return own_folder("htdemucs")


def test_the_voice_alone_can_be_sent(ask, server, place, track):
    write_tiny_demucs(place)
    for only in (False, True):
        assert ask(vocals_only=only).fields == {"lyrics": TEXT}
    sent = [soundfile.read(io.BytesIO(asked.form()["file"][2]))[0] for asked in server.asked]
    assert abs(len(sent[0]) / 48_000 - len(sent[1]) / 48_000) < 0.1
    assert not np.allclose(sent[0][: len(sent[1])], sent[1][: len(sent[0])], atol=1e-3)


def test_the_voice_alone_needs_its_weights(fail, place):
    error = fail(vocals_only=True)
    assert str(error).startswith("--vocals-only: no weights of htdemucs: put ")
