"""Describing folders: real files, a real server, several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import stamina
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.provenance import read_sources, sources_path, write_fields
from sidestep_core.describing.request import DescribeRequest
from sidestep_core.errors import Cancelled, ConfigError, LoadError, UnknownName
from sidestep_core.events import DescribeFinished, DescribeStarted, Event, Notice, SongDescribed
from sidestep_core.requests import Choice
from sidestep_core.settings import Settings
from sidestep_core.sidecars import Sidecar, read_sidecar, sidecar_path, write_sidecar
from sidestep_core.specs import ProviderType
from sidestep_core.testing import web_provider
from sidestep_core.testing.web_provider import Reply, Service, WebConfig, serve
from sidestep_core.toolkit import Toolkit

ANSWER = {"caption": "A warm song.", "genre": ["folk", "pop"], "bpm": 96, "key": "Cm", "signature": "common time"}
WORDS = "\n".join(f"line {n} of many words" for n in range(6))
Answer = Callable[[dict[str, Any]], Reply]


@attrs.define
class Desk:
    """A folder of songs, a server and a toolkit whose providers ask it."""

    root: Path
    service: Service
    toolkit: Toolkit
    answer: Answer

    def choice(self, name: str, **settings: Any) -> Choice:
        return Choice(name=name, config=WebConfig(**{"url": self.service.url, "key": "right", **settings}))

    def request(self, provider: str | None = "web", *, lyrics: str | None = None, **settings: Any) -> DescribeRequest:
        return DescribeRequest(
            config=CaptionsConfig(audio_dir=self.root, **settings),
            provider=self.choice(provider) if provider else None,
            lyrics=self.choice(lyrics) if lyrics else None,
        )

    def run(self, provider: str | None = "web", **settings: Any) -> tuple[DescribeFinished, list[Event]]:
        events = list(self.toolkit.describe(self.request(provider, **settings)))
        assert isinstance(events[-1], DescribeFinished)
        return events[-1], events

    def sidecar(self, name: str) -> Sidecar:
        return read_sidecar(self.root / name) or Sidecar()


@pytest.fixture(autouse=True)
def no_growing_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path / "settings"))
    root = tmp_path / "songs"
    root.mkdir()
    for name in ("Åse - Én.wav", "b.mp3", "sub/c.flac"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    toolkit = Toolkit(plugins={"web": web_provider}, entry_points=False, settings=Settings(tmp_path / "settings.toml"))
    with serve(lambda question: made.answer(question)) as service:
        made = Desk(root, service, toolkit, lambda question: Reply(body=ANSWER))
        yield made


def keep(events: Iterator[Event], seen: list[Event]) -> None:
    for event in events:
        seen.append(event)


def counts(done: DescribeFinished) -> tuple[int, int, int, int, int]:
    return done.written, done.complete, done.unchanged, done.failed, done.left


def failing(title: str, status: int, *, times: int = 99, **headers: str) -> Answer:
    left = [times]

    def answer(question: dict[str, Any]) -> Reply:
        if question["title"] == title and left[0]:
            left[0] -= 1
            return Reply(body=b"no such luck", status=status, headers=headers)
        return Reply(body=ANSWER)

    return answer


def test_every_song_gets_a_sidecar_in_normal_form(desk):
    done, events = desk.run()
    assert counts(done) == (3, 0, 0, 0, 0)
    expected = Sidecar(caption="A warm song.", genre="folk, pop", bpm="96", key="C minor", signature="4/4")
    assert [desk.sidecar(name) for name in ("Åse - Én.wav", "b.mp3", "sub/c.flac")] == [expected] * 3
    assert [type(event) for event in events] == [DescribeStarted, *[SongDescribed] * 3, DescribeFinished]
    assert sorted(desk.service.titles) == ["b", "c", "Én"]
    assert [song.name for song in done.songs] == ["b.mp3", "sub/c.flac", "Åse - Én.wav"]


def test_values_are_drafts_with_their_source(desk):
    desk.run()
    source = read_sources(desk.root / "b.mp3")["caption"]
    assert (source.source, source.model, source.kind) == ("web", "web-1", "provider")


def test_a_second_run_asks_nothing(desk):
    desk.run()
    before = desk.sidecar("b.mp3")
    done, events = desk.run()
    assert counts(done) == (0, 3, 0, 0, 0)
    assert [type(event) for event in events] == [DescribeFinished]
    assert len(desk.service.asked) == 3
    assert desk.sidecar("b.mp3") == before


def test_only_missing_fields_are_asked_for(desk):
    write_sidecar(desk.root / "b.mp3", Sidecar(caption="mine", genre="mine", custom_tag="tag"))
    desk.run()
    (question,) = (asked for asked in desk.service.asked if asked["title"] == "b")
    assert question["schema"]["required"] == ["bpm", "key", "signature", "language", "is_instrumental"]
    made = desk.sidecar("b.mp3")
    assert (made.caption, made.genre, made.custom_tag, made.bpm) == ("mine", "mine", "tag", "96")


def test_what_nobody_asked_for_is_not_taken(desk):
    desk.answer = lambda question: Reply(body={**ANSWER, "lyrics": "uncalled for", "mood": "dark"})
    desk.run()
    assert desk.sidecar("b.mp3").lyrics == ""


def test_what_stays_open_is_not_paid_for_again(desk):
    desk.answer = lambda question: Reply(body={**ANSWER, "bpm": None, "key": "hard to say"})
    assert counts(desk.run()[0]) == (3, 0, 0, 0, 0)
    assert desk.sidecar("b.mp3").bpm == ""
    assert counts(desk.run()[0]) == (0, 3, 0, 0, 0)


@pytest.mark.parametrize(
    ("policy", "caption", "lyrics", "bpm"),
    [
        ("fill_missing", "mine", "mine", "90"),
        ("overwrite_caption", "A warm song.", "mine", "90"),
        ("overwrite_lyrics", "mine", WORDS, "90"),
        ("overwrite_all", "A warm song.", WORDS, "96"),
    ],
)
def test_what_a_user_wrote_gives_way_to_the_policy_alone(desk, policy, caption, lyrics, bpm):
    write_sidecar(desk.root / "b.mp3", Sidecar(caption="mine", lyrics="mine", bpm="90"))
    desk.answer = lambda question: Reply(body={**ANSWER, "lyrics": WORDS})
    desk.run(lyrics="web_lyrics", policy=policy)
    made = desk.sidecar("b.mp3")
    assert (made.caption, made.lyrics, made.bpm, made.genre) == (caption, lyrics, bpm, "folk, pop")


def test_overwriting_lyrics_does_not_pay_for_captions(desk):
    complete = Sidecar(caption="c", genre="g", bpm="90", key="C minor", signature="4/4", lyrics="old")
    for name in ("Åse - Én.wav", "b.mp3", "sub/c.flac"):
        write_sidecar(desk.root / name, complete)
    desk.answer = lambda question: Reply(body={"lyrics": WORDS})
    desk.run(lyrics="web_lyrics", policy="overwrite_lyrics")
    assert [question["schema"]["required"][0] for question in desk.service.asked] == ["language"] * 3
    assert desk.sidecar("b.mp3").lyrics == WORDS


@pytest.mark.parametrize("policy", ["fill_missing", "overwrite_all"])
def test_what_was_measured_stays(desk, policy):
    write_fields(desk.root / "b.mp3", {"bpm": "120", "key": "D major"}, source="signal", kind="measured")
    desk.run(policy=policy)
    made = desk.sidecar("b.mp3")
    assert (made.bpm, made.key, made.caption) == ("120", "D major", "A warm song.")


def test_a_sidecar_is_merged_as_it_is_by_then(desk):
    def answer(question: dict[str, Any]) -> Reply:
        if question["title"] == "b":  # somebody types while the server thinks
            write_sidecar(desk.root / "b.mp3", Sidecar(caption="typed meanwhile", custom_tag="tag"))
        return Reply(body=ANSWER)

    desk.answer = answer
    desk.run()
    made = desk.sidecar("b.mp3")
    assert (made.caption, made.custom_tag, made.bpm) == ("typed meanwhile", "tag", "96")


def test_lyrics_come_first_and_help_the_caption(desk):
    desk.answer = lambda question: Reply(body={**ANSWER, "lyrics": WORDS, "language": "en"})
    done, events = desk.run(lyrics="web_lyrics")
    assert [event.provider for event in events if isinstance(event, DescribeStarted)] == ["web_lyrics", "web"]
    assert len(done.songs) == 6
    assert counts(done) == (3, 0, 0, 0, 0)
    assert all("The lyrics begin so:\nline 0" in question["prompt"] for question in desk.service.asked[3:])
    assert all("language" not in question["schema"]["required"] for question in desk.service.asked[3:])


def test_a_provider_of_two_parts_is_asked_once(desk):
    desk.answer = lambda question: Reply(body={**ANSWER, "lyrics": WORDS})
    desk.run("web_local", lyrics="web_local")
    assert len(desk.service.asked) == 3
    assert (desk.sidecar("b.mp3").lyrics, desk.sidecar("b.mp3").bpm) == (WORDS, "96")


def test_a_song_that_fails_costs_itself_alone(desk):
    desk.answer = failing("b", 422)
    done, _ = desk.run()
    assert counts(done) == (2, 0, 0, 1, 0)
    (failed,) = (song for song in done.songs if song.problem)
    assert (failed.name, failed.problem) == ("b.mp3", "422: no such luck")
    assert not sidecar_path(desk.root / "b.mp3").exists()
    assert len(desk.service.asked) == 3


def test_a_song_that_is_not_known_is_no_failure(desk):
    desk.answer = failing("b", 404)
    done, _ = desk.run()
    assert counts(done) == (2, 0, 1, 0, 0)
    assert ("404: no such luck",) in [song.doubts for song in done.songs]


def test_one_part_may_fail_and_the_other_is_written(desk):
    desk.answer = lambda question: (
        Reply(body=b"busy", status=422) if "lyrics" in question["schema"]["required"] else Reply(body=ANSWER)
    )
    done, _ = desk.run(lyrics="web_lyrics")
    assert counts(done) == (3, 0, 0, 3, 0)
    assert desk.sidecar("b.mp3").caption == "A warm song."


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again_and_told(desk, status):
    desk.answer = failing("b", status, times=2)
    done, events = desk.run()
    assert counts(done) == (3, 0, 0, 0, 0)
    assert len(desk.service.asked) == 5
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == [f"web: {status}: no such luck; trying again in 0 s"] * 2


def test_a_busy_service_is_left_alone_as_long_as_it_asks(desk):
    desk.answer = failing("b", 429, times=1, **{"Retry-After": "1"})
    before = time.monotonic()
    assert counts(desk.run()[0]) == (3, 0, 0, 0, 0)
    assert time.monotonic() - before >= 1


def test_nobody_asks_a_busy_service_meanwhile(desk):
    asked_at: list[float] = []
    lock = threading.Lock()

    def answer(question: dict[str, Any]) -> Reply:
        with lock:
            asked_at.append(time.monotonic())
            first = len(asked_at) == 1
        if first:
            return Reply(body=b"busy", status=429, headers={"Retry-After": "1"})
        time.sleep(0.2)
        return Reply(body=ANSWER)

    for number in range(6):
        (desk.root / f"{number}.wav").touch()
    desk.answer = answer
    assert counts(desk.run(workers=2)[0]) == (9, 0, 0, 0, 0)
    # the second worker may have asked before it could know
    assert all(later - asked_at[0] >= 1 for later in asked_at[2:])


@pytest.mark.parametrize(("status", "kind"), [(401, "key"), (402, "quota")])
def test_a_wrong_key_and_a_spent_quota_end_it_at_once(desk, status, kind):
    asked_before = []

    def answer(question: dict[str, Any]) -> Reply:
        asked_before.append(1)
        return Reply(body=ANSWER) if len(asked_before) == 1 else Reply(body=b"over", status=status)

    desk.answer = answer
    done, _ = desk.run(workers=1)
    assert counts(done) == (1, 0, 0, 0, 2)
    assert done.ended == f"web: {status}: over"
    assert len(desk.service.asked) == 2
    assert desk.sidecar("b.mp3").caption == "A warm song."


def test_without_a_key_nobody_is_asked(desk):
    request = attrs.evolve(desk.request(), provider=desk.choice("web", key=None))
    (started, done) = desk.toolkit.describe(request)
    assert isinstance(started, DescribeStarted)
    assert (done.ended, done.left, desk.service.asked) == ("web: no key: give --web-key", 3, [])


def test_a_provider_that_was_not_asked_for_by_name_may_lack_its_key(desk):
    lyrics = desk.choice("web_lyrics", key=None)
    request = attrs.evolve(desk.request(), lyrics=lyrics, optional=frozenset({"web_lyrics"}))
    *_, done = events = list(desk.toolkit.describe(request))
    assert counts(done) == (3, 0, 0, 0, 0)
    assert [event.message for event in events if isinstance(event, Notice)] == [
        "web_lyrics: no key: give --web-key; it is left out"
    ]


def test_a_server_that_hangs_up_is_asked_again(desk):
    desk.answer = failing("b", 0, times=2)
    done, events = desk.run()
    assert counts(done) == (3, 0, 0, 0, 0)
    assert sum("cannot be reached" in event.message for event in events if isinstance(event, Notice)) == 2


def test_a_server_that_is_gone_is_a_problem_of_every_song_after_some_tries(desk):
    request = attrs.evolve(desk.request(workers=1, tries=2), provider=desk.choice("web", url="http://127.0.0.1:9"))
    *events, done = desk.toolkit.describe(request)
    assert counts(done) == (0, 0, 0, 3, 0)
    assert sum(isinstance(event, Notice) for event in events) == 3


def test_a_broken_answer_is_a_problem_of_its_song(desk):
    desk.answer = lambda question: Reply(body=b'{"caption": "cut' if question["title"] == "b" else ANSWER)
    done, _ = desk.run()
    assert [song.problem for song in done.songs if song.problem] == ["the server's answer is no JSON"]


def test_an_answer_that_names_nothing_is_a_problem(desk):
    desk.answer = lambda question: Reply(body={"text": "I cannot listen to audio"})
    done, _ = desk.run()
    assert counts(done) == (0, 0, 0, 3, 0)
    assert not list(desk.root.rglob("*.txt")) + list(desk.root.rglob("*.json"))


def test_doubts_are_shown_and_make_a_guess(desk):
    desk.answer = lambda question: Reply(body={"lyrics": "oh " * 100, "doubts": ["heard 45 of 200 s"]})
    done, _ = desk.run(None, lyrics="web_lyrics")
    assert done.songs[0].doubts == ("lyrics: 'oh' stands there 100 times in a row", "heard 45 of 200 s")
    source = read_sources(desk.root / "b.mp3")["lyrics"]
    assert (source.kind, source.confidence, source.doubts[-1]) == ("guess", "low", "heard 45 of 200 s")


@pytest.mark.parametrize(("provider", "most"), [("web", 3), ("web_local", 1)])
def test_networks_take_several_songs_at_once_and_local_models_one(desk, provider, most):
    busy, peak, lock = [0], [0], threading.Lock()
    everyone = threading.Barrier(most)

    def answer(question: dict[str, Any]) -> Reply:
        with lock:
            busy[0] += 1
            peak[0] = max(peak[0], busy[0])
        everyone.wait(20)
        with lock:
            busy[0] -= 1
        return Reply(body=ANSWER)

    desk.answer = answer
    desk.run(provider, workers=3)
    assert peak[0] == most


def test_stopping_finishes_the_songs_in_work_and_leaves_the_rest(desk):
    stop = threading.Event()

    def answer(question: dict[str, Any]) -> Reply:
        stop.set()
        return Reply(body=ANSWER)

    desk.answer = answer
    events: list[Event] = []
    with pytest.raises(Cancelled):
        keep(desk.toolkit.describe(desk.request(workers=1), cancelled=stop.is_set), events)
    assert counts(events[-1]) == (1, 0, 0, 0, 2)
    assert len(list(desk.root.rglob("*.txt"))) == 1
    assert counts(desk.run()[0]) == (2, 1, 0, 0, 0)


def test_stopping_cuts_waits_short(desk):
    stop = threading.Event()
    desk.answer = failing("b", 429, **{"Retry-After": "200"})
    before = time.monotonic()

    def follow() -> None:
        for event in desk.toolkit.describe(desk.request(workers=1), cancelled=stop.is_set):
            if isinstance(event, Notice):
                stop.set()

    with pytest.raises(Cancelled):
        follow()
    assert time.monotonic() - before < 100


def test_whoever_stops_listening_ends_it(desk):
    events = desk.toolkit.describe(desk.request(workers=1))
    next(events)
    events.close()
    assert len(desk.service.asked) <= 1


def test_songs_that_share_a_sidecar_are_paid_for_once(desk):
    (desk.root / "b.wav").touch()
    desk.run()
    assert sorted(desk.service.titles) == ["b", "c", "Én"]


def test_a_damaged_sidecar_costs_its_song_alone_and_stays_as_it_is(desk):
    path = sidecar_path(desk.root / "b.mp3")
    path.write_bytes(b"caption: \xff")
    done, events = desk.run()
    assert counts(done) == (2, 0, 0, 1, 0)
    assert "not UTF-8" in events[0].problem
    assert path.read_bytes() == b"caption: \xff"


def test_a_file_that_cannot_be_written_costs_its_song_alone(desk):
    def answer(question: dict[str, Any]) -> Reply:
        if question["title"] == "b":
            sidecar_path(desk.root / "b.mp3").mkdir()
        return Reply(body=ANSWER)

    desk.answer = answer
    done, _ = desk.run()
    assert counts(done) == (2, 0, 0, 1, 0)


def test_nothing_but_sidecars_and_sources_is_written(desk):
    desk.run()
    songs = {"Åse - Én", "b", "c"}
    suffixes = (".txt", ".sources.json")
    made = {path.name for path in desk.root.rglob("*") if path.is_file()} - {"Åse - Én.wav", "b.mp3", "c.flac"}
    assert made == {stem + suffix for stem in songs for suffix in suffixes}
    assert sources_path(desk.root / "b.mp3").exists()


def test_nobody_to_ask_is_an_error(desk):
    with pytest.raises(ConfigError, match="nobody to ask"):
        desk.run(None)
    with pytest.raises(UnknownName, match="web"):
        list(desk.toolkit.describe(attrs.evolve(desk.request(), provider=Choice(name="wbe"))))
    with pytest.raises(ConfigError, match="'web_lyrics' gives language, lyrics; here it is asked for bpm, caption"):
        desk.run("web_lyrics")


def test_a_plan_asks_nobody(desk):
    plans = desk.toolkit.plan_describing(desk.request(lyrics="web_lyrics"))
    assert [list(plan.asked) for plan in plans] == [["web_lyrics", "web"]] * 3
    assert desk.service.asked == []


def test_a_provider_is_checked_for_free(desk):
    assert desk.toolkit.check_provider(desk.choice("web")) == "web server 1"
    assert desk.service.asked == []


class Foreign:
    """A provider of somebody else's, with bugs; `wrong` says where."""

    wrong = ""

    def __init__(self, config: WebConfig, context: object) -> None:
        self.key = config.key
        self._at("init")

    def _at(self, place: str) -> None:
        if place == self.wrong:
            raise RuntimeError(f"bug at {place} with {self.key}")

    def __enter__(self) -> Foreign:
        self._at("enter")
        return self

    def __exit__(self, *error: object) -> None:
        self._at("exit")

    def describe(self, track: Any, wanted: Any, cancelled: Any) -> Any:
        self._at("describe")
        return web_provider.Description(fields={"caption": "c"}, source="foreign")


class ForeignType(ProviderType):
    """A spec whose target is a class of this module."""

    def load(self) -> Any:
        return Foreign


@pytest.mark.parametrize("place", ["init", "enter", "describe", "exit", ""])
def test_bugs_of_providers_are_told_without_their_keys(desk, monkeypatch, caplog, place):
    spec = ForeignType(name="foreign", summary="x", target="x:y", config=WebConfig, supplies=frozenset({"caption"}))
    monkeypatch.setattr(desk.toolkit.plugins, "find", lambda kind, name: spec)
    monkeypatch.setattr(Foreign, "wrong", place)
    request = attrs.evolve(desk.request(), provider=desk.choice("foreign", key="sk-secret"))
    events = list(desk.toolkit.describe(request))
    expected = {"init": (0, 0, 3), "enter": (0, 0, 3), "describe": (0, 3, 0), "exit": (3, 0, 0), "": (3, 0, 0)}
    done = events[-1]
    assert (done.written, done.failed, done.left) == expected[place]
    assert "sk-secret" not in str(events) + caplog.text
    assert (f"bug at {place} with ***" in str(events) + caplog.text) == bool(place)


def test_what_has_to_be_installed_is_said_before_anybody_is_asked(desk, monkeypatch):
    spec = ProviderType(name="x", summary="x", target="x:y", supplies=frozenset({"caption"}), needs=("no-such-thing",))
    monkeypatch.setattr(desk.toolkit.plugins, "find", lambda kind, name: spec)
    with pytest.raises(LoadError, match="needs no-such-thing: pip install"):
        list(desk.toolkit.describe(attrs.evolve(desk.request(), provider=Choice(name="x"))))
