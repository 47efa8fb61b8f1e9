"""Captions by a provider of somebody else's, installed in a throwaway site folder, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.describing.provenance import owner, read_sources
from sidestep_core.files import is_temporary
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar
from sidestep_core.testing.web_provider import Reply, Service, serve

PAGE = Path(__file__).resolve().parents[1] / "docs/plugins/providers.md"
BLOCK = re.compile(r"^```(?:python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEY = "sk-radio-0815"
ANSWER = {"caption": "Here comes a warm one. It stays warm.", "bpm": 96}


@attrs.define
class Place:
    """A folder of songs, a server, and processes in which the provider of the page is installed."""

    folder: Path
    service: Service
    answer: Callable[[dict[str, Any]], Reply]

    @property
    def songs(self) -> Path:
        return self.folder / "songs"

    def start(self, *words: str | Path, **more: Any) -> subprocess.Popen[str]:
        variables = {name: more.pop(name) for name in list(more) if name.isupper()}
        environment = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_TOKEN"))}
        environment |= {
            "PYTHONPATH": str(self.folder / "site"),
            "COLUMNS": "100",
            "SIDESTEP_CONFIG_DIR": str(self.folder / "config"),
            "SIDESTEP_DATA_DIR": str(self.folder / "data"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            **variables,
        }
        command = [sys.executable, *map(str, words)]
        streams = {**dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE), **more}
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **streams)

    def run(self, *words: str | Path, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **variables)
        out, err = process.communicate(typed)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def captions(self, *more: str) -> tuple[str | Path, ...]:
        words = ("--audio-dir", self.songs, "--provider", "radio", "--radio-url", self.service.url)
        return ("-m", "sidestep_cli", "captions", *words, *more)


def install(site: Path) -> None:
    """Put in what installing the page's plugin would."""
    files = {}
    for body in BLOCK.findall(PAGE.read_text("utf-8")):
        if match := re.match(r"# (\S+\.\w+)\n", body):
            files[match[1]] = body
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    for name, code in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(code, "utf-8")
    info = site / "sidestep_radio-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1\n", "utf-8")
    (name, module), *_ = project["entry-points"]["sidestep"].items()
    (info / "entry_points.txt").write_text(f"[sidestep]\n{name} = {module}\n", "utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    install(tmp_path / "site")
    (tmp_path / "songs").mkdir()
    with serve(lambda question: made.answer(question)) as service:
        made = Place(tmp_path, service, lambda question: Reply(body=ANSWER))
        yield made


def add_songs(place: Place, count: int) -> list[Path]:
    songs = [place.songs / f"{number:03} – Süß.wav" for number in range(count)]
    for song in songs:
        song.write_bytes(b"RIFF")
    return songs


def test_a_provider_of_somebody_elses_describes_songs(place: Place) -> None:
    songs = add_songs(place, 3)
    result = place.run(*place.captions(), RADIO_API_KEY=KEY)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "3 songs described"
    assert [read_sidecar(song) for song in songs] == [Sidecar(caption=ANSWER["caption"], bpm=96)] * 3
    assert place.service.keys == {f"Bearer {KEY}"}
    assert KEY not in result.stdout + result.stderr


def test_without_a_key_it_says_what_to_do(place: Place) -> None:
    add_songs(place, 1)
    result = place.run(*place.captions())
    assert result.returncode == 2
    assert "error: radio: no key: run 'sidestep keys set radio'" in result.stderr


def test_a_key_cannot_be_kept_where_no_keyring_is(place: Place) -> None:
    result = place.run("-m", "sidestep_cli", "keys", "set", "radio", typed=f"{KEY}\n")
    assert result.returncode == 2
    assert "no keyring that encrypts what it keeps; put the key into the environment as RADIO_API_KEY" in result.stderr
    assert KEY not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="no such terminals")
def test_a_key_that_is_typed_on_a_terminal_is_not_seen(place: Place) -> None:
    ours, theirs = os.openpty()
    words = ("-m", "sidestep_cli", "keys", "set", "radio")
    process = place.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen = b""
    while b"key of radio:" not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, f"{KEY}\n".encode())
    with contextlib.suppress(OSError):  # Linux reports the end of a pseudo-terminal this way
        while more := os.read(ours, 1000):
            seen += more
    os.close(ours)
    assert process.wait() == 2
    assert b"no keyring that encrypts" in seen
    assert KEY.encode() not in seen


def test_it_is_listed_and_checked(place: Place) -> None:
    listed = place.run("-m", "sidestep_cli", "providers", "list", "--json")
    (radio,) = (entry for entry in json.loads(listed.stdout) if entry["name"] == "radio")
    assert radio["supplies"] == ["bpm", "caption"]
    words = ("-m", "sidestep_cli", "providers", "check", "radio", "--radio-url", place.service.url)
    assert place.run(*words, RADIO_API_KEY=KEY).stdout == "web server 1\n"


def test_the_tests_that_the_page_writes_pass(place: Place) -> None:
    (code,) = (body for body in BLOCK.findall(PAGE.read_text("utf-8")) if body.startswith("import pytest"))
    (place.folder / "test_radio.py").write_text(code, "utf-8")
    result = place.run("-m", "pytest", "-v", "-p", "no:cacheprovider", "test_radio.py")
    assert result.returncode == 0, result.stdout
    assert "TestPlugin::test_it_has_no_faults PASSED" in result.stdout
    assert "TestRadio::test_its_secrets_are_not_shown PASSED" in result.stdout


def test_a_busy_service_is_told_once_and_in_plain_words(place: Place) -> None:
    add_songs(place, 1)
    answers = iter([Reply(body=b"", status=429, headers={"Retry-After": "0"})])
    place.answer = lambda question: next(answers, Reply(body=ANSWER))
    result = place.run(*place.captions("--no-lyrics"), RADIO_API_KEY=KEY)
    assert result.returncode == 0
    first, second, third = result.stderr.splitlines()
    assert first == "asking radio about 1 song"
    assert re.fullmatch(r"radio: the server says 429; trying again in \d s", second)
    assert third.startswith("radio 1/1  000")


def test_a_signal_lets_the_songs_in_work_finish(place: Place) -> None:
    songs = add_songs(place, 12)
    process: list[subprocess.Popen[str]] = []

    def answer(question: dict[str, Any]) -> Reply:
        if len(place.service.asked) == 5:
            process[0].send_signal(signal.SIGINT)
            time.sleep(0.5)
        return Reply(body=ANSWER)

    place.answer = answer
    process.append(place.start(*place.captions("--workers", "2"), RADIO_API_KEY=KEY))
    out, err = process[0].communicate()
    assert process[0].returncode == 130, err
    assert "stopping: the songs at hand are finished and kept" in err
    written = [song for song in songs if read_sidecar(song)]
    assert len(written) == len(place.service.asked) < len(songs)
    assert f"{len(written)} songs described, {len(songs) - len(written)} not asked about" in out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_killed_in_the_middle_of_200_songs_it_loses_none_that_is_finished_and_damages_none(place: Place) -> None:
    songs = add_songs(place, 200)
    mine = songs[::10]
    for song in mine:
        write_sidecar(song, Sidecar(caption="mine", genre="mine", custom_tag="tag"))
    process: list[subprocess.Popen[str]] = []
    kills = iter((40, 90, 150))
    answered: list[str] = []
    at = [next(kills)]

    def answer(question: dict[str, Any]) -> Reply:
        answered.append(question["title"])
        if len(answered) == at[0]:
            process[-1].kill()
        return Reply(body=ANSWER)

    place.answer = answer
    finished: set[Path] = set()
    while True:
        process.append(place.start(*place.captions("--workers", "8", "--json"), RADIO_API_KEY=KEY))
        out, err = process[-1].communicate()
        told = [json.loads(line) for line in out.splitlines() if line.endswith("}")]
        finished |= {place.songs / line["name"] for line in told if line["event"] == "song-described"}
        # what it said was finished is there, whole, and known to be its own
        for song in finished:
            sidecar = read_sidecar(song)
            assert sidecar is not None
            assert sidecar.bpm == "96"
            assert owner("bpm", sidecar.bpm, read_sources(song)) == "provider"
        for song in songs:
            sidecar = read_sidecar(song) or Sidecar()
            assert sidecar.bpm in ("", "96")
            assert sidecar.caption == ("mine" if song in mine else sidecar.caption)
            assert sidecar.caption in ("", "mine", ANSWER["caption"])
            read_sources(song)
        if process[-1].returncode == 0:
            break
        assert process[-1].returncode == -signal.SIGKILL, err
        at[0] = next(kills, 10**6)
    assert len(process) == 4
    assert [read_sidecar(song).bpm for song in songs if read_sidecar(song)] == ["96"] * 200
    assert all((read_sidecar(song) or Sidecar()).custom_tag == "tag" for song in mine)
    # each kill costs the songs in work at most
    assert len(answered) <= 200 + 3 * 8
    leftovers = [path for path in place.songs.iterdir() if path.suffix not in (".wav", ".txt", ".json", ".bak")]
    assert all(is_temporary(path) for path in leftovers)
