"""The contract of providers passes what keeps it and fails what does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sidestep_core.errors import ProviderError
from sidestep_core.interfaces import Description, Track
from sidestep_core.specs import ProviderType
from sidestep_core.testing.contracts import ProviderContract
from sidestep_core.testing.providers import SECRET, write_tone
from sidestep_core.testing.web_provider import Reply, WebConfig, serve

ANSWER = {
    "caption": "A warm song.",
    "genre": ["folk"],
    "bpm": 96,
    "key": "C minor",
    "signature": "4/4",
    "language": "no",
    "is_instrumental": False,
    "lyrics": "[Verse]\nOne",
}


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    with serve(lambda question: Reply(body=ANSWER)) as running:
        TestWeb.config = TestLocal.config = WebConfig(url=running.url, key="right")
        yield


class TestWeb(ProviderContract):
    plugin, name = "sidestep_core.testing.web_provider", "web"


class TestLocal(ProviderContract):
    plugin, name = "sidestep_core.testing.web_provider", "web_local"


class TestByName(ProviderContract):
    """One that looks songs up and has nothing to set."""

    hears = False

    @pytest.fixture
    def spec(self) -> ProviderType:
        return _Given(name="names", summary="Knows names", target="here:ByName", supplies=frozenset({"genre"}))


class ByName:
    def __init__(self, config, context):
        self.secret = config and config.key

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def check(self):
        return "names"

    def describe(self, track, wanted, cancelled):
        return Description(fields=dict.fromkeys(wanted, "folk"), source="names")


class _Given(ProviderType):
    """A spec whose target is a class of this module."""

    def load(self):
        return globals()[self.target.partition(":")[2]]


class Careless(ByName):
    """Does everything wrong."""

    def __repr__(self):
        return f"Careless({self.secret})"

    def check(self):
        raise ProviderError(f"wrong key {self.secret}", kind="key")

    def describe(self, track, wanted, cancelled):
        (track.path.parent / "left.tmp").touch()
        return Description(fields={"bpm": "quick", "genre": "folk"}, confidence={"key": "low"})


@pytest.mark.parametrize(
    "test",
    [
        "test_it_can_be_checked_without_being_entered",
        "test_it_gives_what_is_wanted_in_a_form_that_can_be_used",
        "test_it_gives_nothing_that_is_not_wanted",
        "test_it_leaves_the_song_and_its_folder_alone",
        "test_a_file_that_is_not_there_is_an_error_of_its_own",
        "test_its_secrets_are_not_shown",
    ],
)
def test_what_breaks_the_contract_fails(tmp_path, test):
    spec = _Given(name="careless", summary="x", target="here:Careless", config=WebConfig, supplies=frozenset({"genre"}))
    contract = ProviderContract()
    contract.config = WebConfig(key=SECRET)
    write_tone(tmp_path / "a.wav")
    track = Track(path=tmp_path / "a.wav", title="a")
    arguments = {"spec": spec, "provider": Careless(contract.config, None), "track": track}
    method = getattr(contract, test)
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    with pytest.raises((AssertionError, ProviderError, pytest.fail.Exception)):
        method(**{name: arguments[name] for name in names})
