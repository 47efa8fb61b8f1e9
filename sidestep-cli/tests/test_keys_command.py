"""Keys: from the environment and the keyring, by flag, and nowhere else to be found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.errors import KeyringLocked
from sidestep_core.builtins import plugin as builtins
from sidestep_core.errors import ConfigError
from sidestep_core.hookspecs import hookimpl
from sidestep_core.keys import find_key, forget_key, key_place, key_variable, store_key
from sidestep_core.testing import web_provider
from sidestep_core.testing.web_provider import Reply, Service, serve
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]
KEY = "sk-very-secret-4711"


class InMemory(KeyringBackend):
    """A keyring that works."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Locked(InMemory):
    """A keyring that nobody opens."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("locked")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("locked")


class PlaintextKeyring(InMemory):
    """One that writes keys in clear, as keyrings.alt has it."""


class Chain(ChainerBackend):
    """Several keyrings, tried in order."""

    backends = ()


@pytest.fixture(autouse=True)
def own_keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemory]:
    for variable in ("WEB_API_KEY", "GEMINI_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    before, made = keyring.get_keyring(), InMemory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def test_a_key_is_kept_found_and_forgotten(own_keyring: InMemory) -> None:
    assert (find_key("gemini"), key_place("gemini")) == (None, "")
    store_key("gemini", f" {KEY}\n")
    assert own_keyring.kept == {("sidestep", "gemini"): KEY}
    assert (find_key("gemini"), key_place("gemini")) == (KEY, "keyring")
    assert forget_key("gemini")
    assert not forget_key("gemini")
    assert find_key("gemini") is None


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    store_key("huggingface", "kept")
    monkeypatch.setenv("HF_TOKEN", f" {KEY}\n")
    assert (find_key("huggingface"), key_place("huggingface")) == (KEY, "environment")
    monkeypatch.setenv("HF_TOKEN", " ")
    assert find_key("huggingface") == "kept"


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("gemini", "GEMINI_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("genius", "GENIUS_API_TOKEN"),
        ("huggingface", "HF_TOKEN"),
        ("my-own", "MY_OWN_API_KEY"),
    ],
)
def test_variables_are_those_of_the_services_own_tools(service: str, variable: str) -> None:
    assert key_variable(service) == variable


@pytest.mark.parametrize("text", ["", "  \n", "two words", "ключ", "a\x00b", "line\nline"])
def test_what_is_no_key_is_refused_without_being_shown(own_keyring: InMemory, text: str) -> None:
    with pytest.raises(ConfigError, match="the key for gemini is empty or holds a character that no key has") as caught:
        store_key("gemini", text)
    assert not text.strip() or text.strip() not in str(caught.value)
    assert own_keyring.kept == {}


def test_a_keyring_that_keeps_keys_in_clear_is_not_used() -> None:
    plain = PlaintextKeyring()
    plain.kept["sidestep", "gemini"] = "in clear"
    keyring.set_keyring(plain)
    assert find_key("gemini") is None
    with pytest.raises(ConfigError, match=r"no keyring that encrypts .* as GEMINI_API_KEY instead"):
        store_key("gemini", KEY)
    assert plain.kept == {("sidestep", "gemini"): "in clear"}


def test_of_several_keyrings_one_that_encrypts_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, good = PlaintextKeyring(), InMemory()
    monkeypatch.setattr(Chain, "backends", (plain, good))
    keyring.set_keyring(Chain())
    store_key("gemini", KEY)
    assert (plain.kept, find_key("gemini")) == ({}, KEY)


@pytest.mark.parametrize("name", ["fail", "null"])
def test_without_a_keyring_the_environment_is_all_there_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = __import__(f"keyring.backends.{name}", fromlist=["Keyring"])
    keyring.set_keyring(module.Keyring())
    assert find_key("gemini") is None
    with pytest.raises(ConfigError, match="no keyring"):
        store_key("gemini", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    assert find_key("gemini") == KEY


def test_a_locked_keyring_is_as_if_it_held_nothing() -> None:
    keyring.set_keyring(Locked())
    assert find_key("gemini") is None
    with pytest.raises(ConfigError, match=r"does not take the key \(KeyringLocked\)"):
        store_key("gemini", KEY)


@pytest.fixture
def web(run_cli: RunCli) -> RunCli:
    def call(*words: str | Path, typed: str = "") -> Any:
        toolkit = Toolkit(plugins={"web": web_provider, "core": builtins}, entry_points=False)
        return run_cli(*words, toolkit=toolkit, typed=typed)

    return call


def test_a_key_is_read_from_a_pipe_and_not_shown(web: RunCli, own_keyring: InMemory) -> None:
    result = web("keys", "set", "web", typed=f"{KEY}\n")
    assert (result.code, result.out, result.err) == (0, "", "key of web kept in the keyring\n")
    assert own_keyring.kept == {("sidestep", "web"): KEY}
    listed = web("keys", "list")
    assert [line.split() for line in listed.out.splitlines()[1:]] == [["web", "keyring", "WEB_API_KEY"]]
    assert json.loads(web("keys", "list", "--json").out)[0]["place"] == "keyring"
    assert web("keys", "forget", "web").err == "key of web removed\n"
    assert web("keys", "forget", "web").err == "key of web was not there\n"
    assert "not set" in web("keys", "list").out


class Vault:
    """A plugin that keeps keys in its own way."""

    sidestep_api = 1

    @hookimpl
    def sidestep_secret(self, service: str) -> str | None:
        return KEY if service == "web" else None


def test_a_plugin_may_keep_keys_in_its_own_way(run_cli: RunCli) -> None:
    toolkit = Toolkit(plugins={"web": web_provider, "core": builtins, "vault": Vault()}, entry_points=False)
    listed = run_cli("keys", "list", toolkit=toolkit)
    assert listed.out.splitlines()[1].split() == ["web", "plugin", "WEB_API_KEY"]
    assert KEY not in listed.out


def test_keys_of_nobody_are_refused(web: RunCli) -> None:
    result = web("keys", "set", "wbe", typed=KEY)
    assert result.code == 2
    assert "no provider has a key of 'wbe'; there is web" in result.err


def test_a_key_cannot_be_typed_as_an_argument(web: RunCli) -> None:
    assert web("keys", "set", "web", KEY).code == 2


def test_a_toolkit_without_providers_has_no_keys(run_cli: RunCli) -> None:
    assert run_cli("keys", "list", toolkit=Toolkit(entry_points=False)).err == "no provider has a key\n"


@pytest.fixture
def service() -> Iterator[Service]:
    def answer(question: dict[str, Any]) -> Reply:
        # a service that says the key it was sent, as some do
        return Reply(body=f"bad key {KEY} sent".encode(), status=422 if question["title"] == "a" else 401)

    with serve(answer) as running:
        yield running


@pytest.mark.parametrize("way", ["flag", "environment", "keyring"])
def test_a_key_reaches_the_service_and_nothing_else(
    web: RunCli, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, way: str
) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    for name in ("a.wav", "b.wav"):
        (songs / name).touch()
    if way == "environment":
        monkeypatch.setenv("WEB_API_KEY", KEY)
    elif way == "keyring":
        store_key("web", KEY)
    given = ("--web-key", KEY) if way == "flag" else ()
    words = ("--provider", "web", "--web-url", service.url, "--workers", "1")
    results = [web("captions", "-i", songs, *words, *given, *more) for more in ((), ("--json",), ("--dry-run",))]
    results.append(web("providers", "check", *words[1:4], *given))
    assert service.keys == {f"Bearer {KEY}"}
    assert "bad key *** sent" in results[0].err
    assert "bad key *** sent" in results[1].out
    assert all(KEY not in result.out + result.err for result in results)
    assert KEY not in caplog.text
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(KEY.encode() not in content for content in written)


def test_a_flag_comes_before_the_environment(
    web: RunCli, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_API_KEY", "environment")
    (tmp_path / "a.wav").touch()
    words = ("--provider", "web", "--web-url", service.url, "--web-key", " flag ")
    web("captions", "-i", tmp_path, *words)
    assert service.keys == {"Bearer flag"}


def test_a_key_that_cannot_be_one_is_refused_before_anybody_is_asked(
    web: RunCli, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").touch()
    result = web("captions", "-i", tmp_path, "--provider", "web", "--web-url", service.url, "--web-key", "schlüssel")
    assert result.code == 2
    assert "the key for web is empty or holds a character" in result.err
    assert "schlüssel" not in result.err
    assert service.keys == set()
