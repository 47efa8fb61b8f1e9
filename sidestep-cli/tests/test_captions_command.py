"""`sidestep captions` and `sidestep providers`: what they ask, write, show and end with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import stamina
from sidestep_cli.commands import captions
from sidestep_core.builtins import plugin as builtins
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar
from sidestep_core.testing import web_provider
from sidestep_core.testing.web_provider import Reply, Service, serve
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]
ANSWER = {"caption": "A warm song.", "genre": "folk", "bpm": 96, "key": "C minor", "signature": "4/4"}
WORDS = "[Verse]\nOne line\nand another"


@attrs.define
class Desk:
    """A folder of songs, a server, and the command line with providers that ask it."""

    root: Path
    service: Service
    run_cli: RunCli
    answer: Callable[[dict[str, Any]], Reply]

    def __call__(self, *words: str | Path, key: str | None = "right") -> Any:
        toolkit = Toolkit(plugins={"web": web_provider, "core": builtins}, entry_points=False)
        access = ["--web-url", self.service.url, *(["--web-key", key] if key else [])]
        return self.run_cli(*words, *(access if "--provider" in words else []), toolkit=toolkit)

    def captions(self, *words: str | Path, **more: Any) -> Any:
        return self("captions", "--audio-dir", self.root, *words, **more)

    def fail(self, title: str, status: int) -> None:
        self.answer = lambda q: Reply(body=b"no", status=status) if q["title"] == title else Reply(body=ANSWER)


@pytest.fixture
def desk(run_cli: RunCli, tmp_path: Path) -> Iterator[Desk]:
    root = tmp_path / "songs"
    root.mkdir()
    for name in ("a.wav", "Ö - b.opus"):
        (root / name).touch()
    with serve(lambda question: made.answer(question)) as service, stamina.set_testing(True, attempts=2, cap=True):
        made = Desk(root, service, run_cli, lambda question: Reply(body={**ANSWER, "lyrics": WORDS}))
        yield made


def test_songs_are_described(desk: Desk) -> None:
    result = desk.captions("--provider", "web")
    assert (result.code, result.err.splitlines()[0]) == (0, "asking web about 2 songs")
    assert "web 2/2  " in result.err
    assert "caption, genre, bpm, key, signature (" in result.err
    heading, row, last = result.out.splitlines()
    assert heading.split() == ["PROVIDER", "WRITTEN", "NOTHING", "FAILED", "TIME"]
    assert row.split()[:4] == ["web", "2", "0", "0"]
    assert last == "2 songs described"
    assert read_sidecar(desk.root / "Ö - b.opus") == Sidecar(**{**ANSWER, "bpm": "96"})


def test_what_is_complete_costs_nothing(desk: Desk) -> None:
    desk.captions("--provider", "web")
    result = desk.captions("--provider", "web")
    assert (result.code, result.out, result.err) == (0, "0 songs described, 2 complete before\n", "")
    assert len(desk.service.asked) == 2


def test_one_song_that_fails_is_told(desk: Desk) -> None:
    desk.fail("a", 422)
    result = desk.captions("--provider", "web")
    assert (result.code, result.out.splitlines()[-1]) == (1, "1 song described, 1 with a problem")
    assert "1 song to look at:\nSONG   BY   WHAT\na.wav  web  422: no\n" in result.err


def test_all_songs_that_fail_are_code_2(desk: Desk) -> None:
    desk.answer = lambda question: Reply(body=b"no", status=422)
    assert desk.captions("--provider", "web").code == 2


def test_a_wrong_key_ends_it(desk: Desk) -> None:
    desk.answer = lambda question: Reply(body=b"who are you", status=401)
    result = desk.captions("--provider", "web", "--workers", "1")
    assert result.code == 2
    assert "error: web: 401: who are you\n" in result.err
    assert result.out.splitlines()[-1] == "0 songs described, 2 not asked about"
    assert len(desk.service.asked) == 1


def test_doubts_are_shown(desk: Desk) -> None:
    desk.answer = lambda question: Reply(body={**ANSWER, "lyrics": "oh " * 99})
    result = desk.captions("--provider", "web_local", "--lyrics-provider", "web_local")
    assert result.code == 0
    assert "lyrics, 1 doubt (" in result.err
    assert "lyrics: 'oh' stands there 99 times in a row" in result.err


def test_a_provider_of_two_parts_is_set_up_once(desk: Desk) -> None:
    result = desk.captions("--provider", "web_local", "--lyrics-provider", "web_local", "--temperature", "0.1")
    assert (result.code, len(desk.service.asked)) == (0, 2)
    assert {question["temperature"] for question in desk.service.asked} == {0.1}
    sidecar = read_sidecar(desk.root / "a.wav")
    assert sidecar is not None
    assert sidecar.lyrics == WORDS


def test_settings_of_one_provider_in_two_parts_may_not_differ(desk: Desk) -> None:
    parts = ("--provider", "web_local", "--lyrics-provider", "web_local")
    result = desk.captions(*parts, "--lyrics-temperature", "1")
    assert (result.code, result.err) == (2, "error: provider 'web_local' has different settings in two places\n")


def test_no_lyrics_means_none(desk: Desk) -> None:
    desk.captions("--provider", "web_local", "--lyrics-provider", "web_local", "--no-lyrics")
    assert "lyrics" not in desk.service.asked[0]["schema"]["required"]


@pytest.mark.parametrize("nobody", ["none", "lyrics_only"])
def test_lyrics_can_be_asked_for_alone(desk: Desk, nobody: str) -> None:
    key = ("--web-url", desk.service.url, "--web-key", "right")
    desk("captions", "-i", desk.root, f"--provider={nobody}", "--lyrics-provider", "web_lyrics", *key)
    assert [question["schema"]["required"] for question in desk.service.asked] == [["language", "lyrics"]] * 2


def test_metadata_may_come_from_somebody_else(desk: Desk) -> None:
    access = ("--metadata-url", desk.service.url, "--metadata-key", "right")
    desk.captions("--provider", "web", "--metadata-provider", "web_local", *access)
    assert [q["schema"]["required"][0] for q in desk.service.asked] == ["genre", "genre", "caption", "caption"]


def test_a_policy_overwrites(desk: Desk) -> None:
    write_sidecar(desk.root / "a.wav", Sidecar(caption="mine"))
    desk.captions("--provider", "web")
    assert (read_sidecar(desk.root / "a.wav") or Sidecar()).caption == "mine"
    desk.captions("--provider", "web", "--policy", "overwrite_caption")
    assert (read_sidecar(desk.root / "a.wav") or Sidecar()).caption == "A warm song."


def test_a_dry_run_shows_what_it_would_ask_and_asks_nobody(desk: Desk) -> None:
    write_sidecar(desk.root / "a.wav", Sidecar(caption="mine", genre="g", key="C minor", signature="4/4"))
    result = desk.captions("--provider", "web", "--dry-run")
    assert result.out == (
        "SONG        ASKED  FOR\n"
        "a.wav       web    bpm, language, is_instrumental\n"
        "Ö - b.opus  web    caption, genre, bpm, key, signature, language, is_instrumental\n"
    )
    assert result.err == "2 songs, 0 complete; would ask web about 2\n"
    assert (desk.service.asked, list(desk.root.glob("*.json"))) == ([], [])


def test_a_plan_can_be_json(desk: Desk) -> None:
    plan = json.loads(desk.captions("--provider", "web", "--dry-run", "--json").out)
    assert [(song["name"], "caption" in song["asked"]["web"]) for song in plan] == [
        ("a.wav", True),
        ("Ö - b.opus", True),
    ]


def test_events_can_be_lines_of_json(desk: Desk) -> None:
    result = desk.captions("--provider", "web", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["event"] for line in lines] == ["describe-started", *["song-described"] * 2, "describe-finished"]
    assert (lines[-1]["written"], len(lines[-1]["songs"])) == (2, 2)


def test_with_nobody_chosen_it_says_what_to_do(desk: Desk) -> None:
    result = desk.captions()
    expected = "error: nobody is chosen to describe songs: give --provider NAME; there is web, web_local, web_lyrics\n"
    assert (result.code, result.err) == (2, expected)


def test_with_nobody_installed_it_says_what_to_install(desk: Desk, run_cli: RunCli) -> None:
    result = run_cli("captions", "-i", desk.root, toolkit=Toolkit(entry_points=False))
    assert (result.code, result.err) == (2, "error: no provider is installed: pip install 'sidestep-cli[all]'\n")


def test_no_folder_is_an_error(desk: Desk) -> None:
    result = desk("captions", "--provider", "web")
    assert (result.code, result.err) == (2, "error: no songs: give --audio-dir, a folder\n")


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the providers of the tests those that are there by default."""
    monkeypatch.setattr(captions, "USUAL", {"provider": "web", "lyrics": "web_lyrics"})


@pytest.mark.usefixtures("usual")
def test_lyrics_that_nobody_asked_for_by_name_are_left_out_without_a_key(desk: Desk) -> None:
    access = ("--web-url", desk.service.url, "--web-key", "right")
    result = desk("captions", "-i", desk.root, *access)
    assert result.code == 0
    assert "warning: web_lyrics: no key: give --web-key; it is left out\n" in result.err
    assert result.out.splitlines()[-1] == "2 songs described"
    assert {"lyrics"} & {field for q in desk.service.asked for field in q["schema"]["required"]} == set()


@pytest.mark.usefixtures("usual")
def test_lyrics_that_were_asked_for_by_name_need_their_key(desk: Desk) -> None:
    access = ("--web-url", desk.service.url, "--web-key", "right", "--lyrics-provider", "web_lyrics")
    result = desk("captions", "-i", desk.root, *access)
    assert (result.code, desk.service.asked) == (2, [])


@pytest.mark.usefixtures("usual")
def test_the_usual_provider_is_asked_where_none_is_named(desk: Desk) -> None:
    result = desk("captions", "-i", desk.root, "--no-lyrics", "--dry-run")
    assert result.err == "2 songs, 0 complete; would ask web about 2\n"


def test_settings_choose_and_set_up_providers(desk: Desk) -> None:
    for key, value in (
        ("provider", "web"),
        ("audio_dir", str(desk.root)),
        ("web.url", desk.service.url),
        ("web.temperature", "0.25"),
    ):
        assert desk("settings", "set", key, value).code == 0
    assert desk("captions", "--web-key", "right").code == 0
    assert {question["temperature"] for question in desk.service.asked} == {0.25}
    shown = json.loads(desk("settings", "show", "--json").out)
    assert (shown["provider"], shown["web.temperature"]) == ("web", "0.25")
    assert desk("settings", "clear", "web.temperature").code == 0
    assert "web.temperature" not in json.loads(desk("settings", "show", "--json").out)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("web.temprature", "1", "provider 'web' has no setting 'temprature'; there is temperature, top_p"),
        ("web.temperature", "warm", "web.temperature: expected float, got 'warm'"),
        ("web.temperature", "3", "web.temperature: must be at most 2, got 3"),
        ("web.key", "sk-secret", "web.key is a secret and stands in no file; 'sidestep keys set' keeps it"),
        ("nobody.url", "x", "no setting 'nobody.url'"),
    ],
)
def test_settings_of_providers_are_checked(desk: Desk, tmp_path: Path, key: str, value: str, said: str) -> None:
    result = desk("settings", "set", key, value)
    assert result.code == 2
    assert said in result.err
    assert "sk-secret" not in result.err
    assert not (tmp_path / "config").exists()


def test_help_shows_the_settings_of_the_chosen_providers(desk: Desk) -> None:
    assert "--web-url" not in desk("captions", "--help").out
    text = desk("captions", "--provider=web", "--help").out
    assert "--web-url TEXT" in text
    assert "--temperature X" in text
    lists = " ".join(desk("captions", "--help").out.split())
    assert "else it is genius. [web_local, web_lyrics, none]" in lists
    assert "else it is gemini. [web, web_local, lyrics_only, none]" in lists


def test_providers_are_listed(desk: Desk) -> None:
    result = desk("providers", "list")
    rows = [line.split()[:2] for line in result.out.splitlines()]
    assert rows == [["PROVIDER", "RUNS"], ["web", "network"], ["web_local", "here"], ["web_lyrics", "network"]]
    assert json.loads(desk("providers", "list", "--json").out)[2]["supplies"] == ["language", "lyrics"]


def test_no_providers_are_listed_as_such(run_cli: RunCli) -> None:
    assert run_cli("providers", "list", toolkit=Toolkit(entry_points=False)).err == "no provider is installed\n"


def test_a_provider_is_checked(desk: Desk) -> None:
    result = desk("providers", "check", "web", "--web-url", desk.service.url, "--web-key", "right")
    assert (result.code, result.out) == (0, "web server 1\n")
    assert desk("providers", "check", "--help").code == 0


def test_a_check_heeds_the_settings(desk: Desk) -> None:
    desk("settings", "set", "web.url", desk.service.url)
    assert desk("providers", "check", "web", "--web-key", "right").out == "web server 1\n"


def test_a_provider_that_would_not_answer_says_so(desk: Desk) -> None:
    result = desk("providers", "check", "web", "--web-url", "http://127.0.0.1:9")
    assert result.code == 2
    assert result.err.startswith("error: web: the server cannot be reached: ")
    assert desk("providers", "check").code == 2


def test_the_prompt_can_be_seen_and_replaced(desk: Desk, tmp_path: Path) -> None:
    assert "Describe one recording of music." in desk("providers", "prompt").out
    (path,) = desk("providers", "prompt", "--path").out.splitlines()
    assert (tmp_path / path).parent == tmp_path / "config"
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text("Sing {fields}!")
    assert desk("providers", "prompt").out == "Sing {fields}!"
    desk.captions("--provider", "web")
    assert desk.service.asked[0]["prompt"].startswith("Sing caption, genre")


def test_what_is_published_is_understood(desk: Desk) -> None:
    words = "--provider web --policy fill_missing --lyrics --lyrics-provider none --metadata-provider none"
    result = desk("captions", "--input", desk.root, *words.split(), "--default-artist", "Nobody")
    assert (result.code, len(desk.service.asked)) == (0, 2)
