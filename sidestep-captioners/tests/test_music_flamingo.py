"""The Music Flamingo provider over its three kinds of servers, on real sockets."""

from __future__ import annotations

import json
import threading

import attrs
import pytest
from fake_services import ANSWER, Reply, never
from sidestep_captioners.configs import MusicFlamingoConfig
from sidestep_captioners.music_flamingo import MusicFlamingoProvider, space_address
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ProviderContract

WANTED = frozenset({"caption", "bpm"})
TOKEN = "hf_right0123456789"
SUNG = "[Verse]\nOne line\nAnother line"


@attrs.define
class Local:
    """A server that takes a form at some paths; `told` is its OpenAPI description, if it has one."""

    paths: tuple[str, ...] = ("/caption",)
    told: object = None
    answer: object = attrs.field(factory=lambda: ANSWER)

    def reply(self, asked):
        if asked.path == "/openapi.json" and self.told is not None:
            return Reply(body=self.told)
        if asked.path not in self.paths:
            return Reply(status=404, body={"detail": "Not Found"})
        if asked.method == "GET":
            return Reply(status=405)
        return Reply(body={"lyrics": SUNG} if asked.form()["mode"] == "lyrics" else self.answer)


def component(number, kind, **props):
    return {"id": number, "type": kind, "props": props}


@attrs.define
class Space:
    """A Gradio app as version 5 and later serve it, with a function that does not fit beside the one that does."""

    prefix: str = "/gradio_api"
    output: object = attrs.field(factory=lambda: [json.dumps(ANSWER)])
    stream: str = ""
    data: list = attrs.field(factory=list)
    config: dict = attrs.field(
        factory=lambda: {
            "version": "6.31.0",
            "api_prefix": "/gradio_api",
            "protocol": "sse_v3",
            "components": [
                component(1, "audio", label="Song"),
                component(2, "textbox", label="YouTube address", value=""),
                component(3, "textbox", label="Prompt", value="describe"),
                component(4, "slider", label="Length", value=512),
                component(5, "state"),
                component(6, "button"),
            ],
            "dependencies": [
                {"api_name": False, "inputs": [1, 3]},
                {"api_name": "clear", "inputs": [6]},
                {"api_name": "play", "inputs": [1]},
                {"api_name": "infer", "inputs": [1, 2, 3, 4, 5]},
            ],
        }
    )

    def reply(self, asked):
        if asked.path == f"{self.prefix}/config":
            return Reply(body=self.config)
        if asked.path == f"{self.prefix}/upload":
            name, kind, content = asked.form()["files"]
            self.data.append((name, kind, len(content) > 1000))
            return Reply(body=["/tmp/gradio/ab/song.mp3"])
        if asked.path == f"{self.prefix}/call/infer":
            self.data.append(asked.json()["data"])
            return Reply(body={"event_id": "e1"})
        if asked.path == f"{self.prefix}/call/infer/e1":
            ended = f"event: complete\ndata: {json.dumps(self.output)}\n\n"
            body = "event: heartbeat\ndata: null\n\n" + (self.stream or ended)
            return Reply(body=body, headers={"Content-Type": "text/event-stream"})
        return Reply(status=404, body={"detail": "Not Found"})


@pytest.fixture
def local():
    return Local()


@pytest.fixture
def server(serve, local):
    return serve(local.reply)


@pytest.fixture
def space():
    return Space()


@pytest.fixture
def space_server(serve, space):
    return serve(space.reply)


@pytest.fixture
def ask(server, track):
    """Return a function that describes a song by the local server, or the one given."""

    def describe(wanted=WANTED, at=server, cancelled=never, **changes):
        config = MusicFlamingoConfig(**{"url": at.url, **changes})
        with MusicFlamingoProvider(config, BuildContext()) as provider:
            return provider.describe(track, wanted, cancelled)

    return describe


@pytest.fixture
def fail(ask):
    """Return a function that describes a song and returns the error."""

    def describe(**changes):
        with pytest.raises(ProviderError) as caught:
            ask(**changes)
        return caught.value

    return describe


class TestLocalContract(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "music_flamingo"

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.config = MusicFlamingoConfig(url=server.url)

    @pytest.fixture
    def track(self, track):
        return track


class TestSpaceContract(TestLocalContract):
    @pytest.fixture(autouse=True)
    def _server(self, space_server, space):
        space.output = [json.dumps({**ANSWER, "lyrics": SUNG})]
        self.config = MusicFlamingoConfig(url=space_server.url)


def posts(server):
    return [asked for asked in server.asked if asked.method == "POST"]


def test_a_local_server_is_asked_once_for_what_is_wanted(ask, server):
    found = ask()
    assert found.fields == {"caption": ANSWER["caption"], "bpm": "96"}
    form = posts(server)[-1].form()
    assert posts(server)[-1].path == "/caption"
    assert (form["mode"], form["return_json"]) == ("metadata", "true")
    assert form["file"][:2] == ("song.mp3", "audio/mpeg")
    assert "caption, bpm" in form["prompt"]
    assert "Jóga 日本" in form["prompt"]


def test_lyrics_are_a_question_of_their_own(ask, server):
    found = ask(wanted=frozenset({"caption", "lyrics", "language"}))
    assert found.fields == {"caption": ANSWER["caption"], "lyrics": SUNG}
    assert [asked.form()["mode"] for asked in posts(server)][-2:] == ["metadata", "lyrics"]


def test_lyrics_alone_are_asked_for_with_the_song(ask, server):
    assert ask(wanted=frozenset({"lyrics"})).fields == {"lyrics": SUNG}
    form = posts(server)[-1].form()
    assert form["return_json"] == "false"
    assert len(form["file"][2]) > 1000


def test_lyrics_that_are_refused_do_not_cost_the_description(ask, fail, server):
    refusal = {"text": "I'm sorry, but I can't transcribe lyrics."}
    server.answer = lambda asked: Reply(body=refusal if asked.body and asked.form()["mode"] == "lyrics" else ANSWER)
    found = ask(wanted=WANTED | {"lyrics"}, url=f"{server.url}/infer")
    assert found.fields == {"caption": ANSWER["caption"], "bpm": "96"}
    assert found.doubts[0].startswith("no lyrics: the model refused")
    assert fail(wanted=frozenset({"lyrics"}), url=f"{server.url}/infer").kind == "refused"


def test_what_comes_along_with_lyrics_is_no_question_of_its_own(ask, server):
    ask(wanted=frozenset({"lyrics", "language", "is_instrumental"}))
    assert {asked.form()["mode"] for asked in posts(server)} == {"lyrics"}


def test_where_to_ask_is_read_off_the_servers_own_description(ask, server, local):
    local.paths = ("/v1/analyze",)
    local.told = {"paths": {"/v1/analyze": {"post": {}}, "/health": {"get": {}}, "/infer": {"get": {}}}}
    ask()
    assert [asked.path for asked in posts(server)] == ["/v1/analyze"]


@pytest.mark.parametrize("told", ["text", [], {"paths": []}, {"paths": {"/health": {"get": {}}}}, {"paths": {"/x": 3}}])
def test_a_description_of_no_use_is_passed_over(ask, local, told):
    local.told = told
    assert ask().fields["bpm"] == "96"


def test_an_endpoint_is_found_and_remembered(server, local, track):
    local.paths = ("/infer",)
    with MusicFlamingoProvider(MusicFlamingoConfig(url=server.url), BuildContext()) as provider:
        for _ in range(2):
            provider.describe(track, WANTED, never)
    assert [asked.path for asked in posts(server)] == ["/infer", "/infer"]
    assert sum("config" in asked.path for asked in server.asked) == 2


def test_an_address_that_names_the_task_is_kept(ask, server, local):
    local.paths = ("/my/predict",)
    ask(url=f"{server.url}/my/predict/")
    assert [asked.path for asked in posts(server)] == ["/my/predict"]


def test_a_server_without_any_such_address_says_so(fail, local):
    local.paths = ()
    error = fail()
    assert error.kind == "key"
    assert "404" in str(error)


def test_json_within_a_text_loses_nothing_and_costs_one_question(ask, server, local):
    local.answer = {"text": json.dumps({"caption": "A song.", "bpm": 120, "genres": ["rock"]})}
    found = ask(wanted=WANTED | {"genre"})
    assert found.fields == {"caption": "A song.", "bpm": "120", "genre": "rock"}
    assert sum(asked.path == "/caption" for asked in posts(server)) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "key"), (413, "too large"), (422, "refused"), (429, "rate"), (503, "unreachable")]
)
def test_each_failure_has_its_kind(fail, server, status, kind):
    server.plan({"detail": "no"}, status=status, at="/infer", headers={"Retry-After": "9"})
    error = fail()
    assert error.kind == kind
    assert error.retry_after == (9 if kind in ("rate", "unreachable") else None)


@pytest.mark.parametrize("fault", ["drop", "cut", "stall", "hang"])
def test_connections_that_break_or_hang_are_unreachable(fail, server, fault):
    server.plan(ANSWER, at="/infer", fault=fault)
    assert fail(timeout=0.5).kind == "unreachable"


def test_a_server_that_wakes_up_is_not_taken_for_another_kind(server, local, track):
    server.plan(status=503, at="config")
    with MusicFlamingoProvider(MusicFlamingoConfig(url=server.url), BuildContext()) as provider:
        with pytest.raises(ProviderError) as caught:
            provider.describe(track, WANTED, never)
        assert caught.value.kind == "unreachable"
        assert not posts(server)
        assert provider.describe(track, WANTED, never).fields["bpm"] == "96"


def test_broken_json_is_a_bad_answer(fail, server):
    server.plan(b'{"caption": ', at="/infer", headers={"Content-Type": "application/json"})
    assert fail().kind == "bad answer"


def test_a_space_is_known_by_its_answer_even_at_a_private_address(ask, space_server, space):
    found = ask(at=space_server)
    assert found.fields == {"caption": ANSWER["caption"], "bpm": "96"}
    file = {"path": "/tmp/gradio/ab/song.mp3", "orig_name": "song.mp3", "mime_type": "audio/mpeg"}
    sent, data = space.data
    assert sent == ("song.mp3", "audio/mpeg", True)
    assert data[0] == {**file, "meta": {"_type": "gradio.FileData"}}
    assert data[1] == ""
    assert "caption, bpm" in data[2]
    assert data[3:] == [512]


def test_an_older_space_without_a_prefix_is_asked_too(ask, space_server, space):
    space.prefix = ""
    del space.config["api_prefix"]
    assert ask(at=space_server).fields["bpm"] == "96"


def test_a_space_that_does_not_list_its_components_is_asked_in_the_usual_way(ask, space_server, space):
    del space.config["components"]
    space.config["dependencies"] = [{"api_name": "/infer", "inputs": [1, 2, 3]}]
    ask(at=space_server)
    assert space.data[1][1] == ""
    assert "caption, bpm" in space.data[1][2]


def test_a_space_that_takes_no_audio_is_of_no_use(fail, space_server, space):
    space.config["dependencies"] = [{"api_name": "clear", "inputs": [6]}]
    error = fail(at=space_server)
    assert error.kind == "key"
    assert "takes audio" in str(error)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ('event: error\ndata: {"error": "You have exceeded your GPU quota"}\n\n', "quota"),
        ('event: error\ndata: {"error": "Queue is full"}\n\n', "rate"),
        ('event: error\ndata: "list index out of range"\n\n', "bad answer"),
        ("event: error\ndata: null\n\n", "unreachable"),
        ("event: complete\ndata: [broken\n\n", "bad answer"),
        ("event: generating\ndata: []\n\n", "unreachable"),
        ("event: complete\ndata: []\n\n", "bad answer"),
    ],
)
def test_how_a_call_of_a_space_ends_is_told(fail, space_server, space, stream, kind):
    space.stream = stream
    assert fail(at=space_server).kind == kind


@pytest.mark.parametrize(("at", "body"), [("/upload", {}), ("/upload", []), ("/call", {}), ("/call", [])])
def test_a_space_that_does_not_take_the_song_is_a_bad_answer(fail, space_server, at, body):
    space_server.plan(body, at=at)
    assert fail(at=space_server).kind == "bad answer"


@pytest.mark.parametrize("at", ["/upload", "/call/infer"])
def test_an_upload_to_a_space_that_breaks_off_is_unreachable(fail, space_server, at):
    space_server.plan(["x"], at=at, fault="cut")
    assert fail(at=space_server).kind == "unreachable"


def test_a_song_that_is_torn_on_its_way_to_a_space_is_unreachable(space_server, long_track):
    space_server.torn = "/upload"
    provider = MusicFlamingoProvider(MusicFlamingoConfig(url=space_server.url), BuildContext())
    with provider, pytest.raises(ProviderError) as caught:
        provider.describe(long_track, WANTED, never)
    assert caught.value.kind == "unreachable"


def test_the_token_stays_here_unless_told_otherwise(ask, server, space_server):
    ask(token=TOKEN)
    ask(token=TOKEN, at=space_server)
    assert not any("authorization" in asked.headers for asked in server.asked + space_server.asked)
    assert not any(TOKEN in str(asked.headers) for asked in server.asked + space_server.asked)


def test_the_user_may_send_the_token_anywhere(ask, server, space_server):
    ask(token=TOKEN, send_token=True)
    ask(token=TOKEN, send_token=True, at=space_server)
    assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in server.asked + space_server.asked)


def test_a_token_is_not_shown_even_where_the_server_repeats_it(fail, server):
    server.plan({"detail": f"token {TOKEN} is expired"}, status=401, at="config")
    error = fail(token=TOKEN, send_token=True)
    assert error.kind == "key"
    assert TOKEN not in str(error)


def test_a_token_with_odd_characters_is_refused(fail, server):
    assert fail(token="hf_tökén").kind == "key"
    assert not server.asked


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ("https://huggingface.co/spaces/nvidia/music-flamingo", "https://nvidia-music-flamingo.hf.space"),
        ("https://huggingface.co/spaces/Some_One/My.Space", "https://some-one-my-space.hf.space"),
        ("https://nvidia-music-flamingo.hf.space", "https://nvidia-music-flamingo.hf.space"),
        ("http://localhost:7860/spaces/a/b", "http://localhost:7860/spaces/a/b"),
    ],
)
def test_the_page_of_a_space_leads_to_the_space(page, address):
    assert space_address(page) == address


def test_an_address_is_needed(fail):
    error = fail(url=None)
    assert error.kind == "key"
    assert "--music-flamingo-url" in str(error)


def test_checking_sends_no_song(server):
    line = MusicFlamingoProvider(MusicFlamingoConfig(url=server.url), BuildContext()).check()
    assert "answers" in line
    assert server.paths == ["GET "] or server.paths == ["GET /"]


def test_who_stops_is_not_kept_waiting(ask, server):
    with pytest.raises(Cancelled):
        ask(cancelled=lambda: True)
    assert not server.asked


def test_many_threads_find_the_server_out_once(server, track):
    found = []
    with MusicFlamingoProvider(MusicFlamingoConfig(url=server.url), BuildContext()) as provider:
        ask = lambda: found.append(provider.describe(track, WANTED, never).fields["bpm"])  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["96"] * 6
    assert sum(asked.path == "/openapi.json" for asked in server.asked) == 1
