"""Whom a request asks for what, with which settings, and what becomes of secrets."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.plan import ALONG, DESCRIPTION
from sidestep_core.describing.request import Asked, DescribeRequest, check_provider, find_asked, with_secret
from sidestep_core.errors import AmbiguousName, ConfigError, LoadError, ProviderError, UnknownName
from sidestep_core.hookspecs import hookimpl
from sidestep_core.options import config, option
from sidestep_core.plugins import Plugins
from sidestep_core.requests import Choice
from sidestep_core.specs import ProviderType
from sidestep_core.testing import web_provider
from sidestep_core.testing.web_provider import WebConfig

SECRET = "sk-4711-4711"


class Safe:
    """A plugin that knows secrets of services."""

    sidestep_api = 1

    def __init__(self, **secrets: str) -> None:
        self.secrets, self.asked = secrets, list[str]()

    @hookimpl
    def sidestep_secret(self, service: str) -> str | None:
        self.asked.append(service)
        return self.secrets.get(service)


class Offers:
    """A plugin that offers providers."""

    sidestep_api = 1

    def __init__(self, *specs: ProviderType) -> None:
        self.specs = specs

    @hookimpl
    def sidestep_providers(self) -> tuple[ProviderType, ...]:
        return self.specs


def spec(name: str = "one", **more: Any) -> ProviderType:
    made = {"summary": "x", "target": "no.such:Thing", "supplies": frozenset({"caption"}), **more}
    return ProviderType(name=name, **made)


def plugins(*offered: ProviderType, **secrets: str) -> Plugins:
    extra = {"web": web_provider, "offers": Offers(*offered), "safe": Safe(**secrets)}
    return Plugins(entry_points=False, extra=extra)


def asked(found: Plugins, **parts: Choice | None) -> list[Asked]:
    return find_asked(DescribeRequest(config=CaptionsConfig(), **parts), found)


def web(name: str = "web", **settings: Any) -> Choice:
    return Choice(name=name, config=WebConfig(**settings))


def test_each_part_asks_for_its_own_fields_lyrics_first():
    turns = asked(plugins(), provider=web(), lyrics=web("web_lyrics"), metadata=web("web_local"))
    fields = {turn.stage.name: set(turn.stage.fields) for turn in turns}
    assert list(fields) == ["web_lyrics", "web_local", "web"]
    assert fields["web_lyrics"] == {"lyrics", "language"}
    assert fields["web_local"] == {"genre", "bpm", "key", "signature", *ALONG}
    assert fields["web"] == {*DESCRIPTION, *ALONG}


def test_two_parts_of_one_provider_are_one_turn():
    (turn,) = asked(plugins(), provider=web("web_local", key="k"), lyrics=Choice(name="web_local"))
    assert turn.stage.fields == DESCRIPTION | ALONG | {"lyrics"}
    assert turn.config.key == "k"


def test_the_same_settings_may_stand_in_two_places():
    (turn,) = asked(plugins(), provider=web("web_local", top_p=0.5), lyrics=web("web_local", top_p=0.5))
    assert turn.config.top_p == 0.5


def test_different_settings_in_two_places_are_refused():
    with pytest.raises(ConfigError, match="'web_local' has different settings in two places"):
        asked(plugins(), provider=web("web_local", top_p=0.5), lyrics=web("web_local", top_p=0.6))


def test_one_without_settings_has_none():
    (turn,) = asked(plugins(spec()), provider=Choice(name="one"))
    assert turn.config is None
    assert turn.hide("text") == "text"


def test_only_those_that_were_named_optional_are():
    request = DescribeRequest(
        config=CaptionsConfig(), provider=web(), lyrics=web("web_lyrics"), optional=frozenset({"web_lyrics"})
    )
    assert [turn.optional for turn in find_asked(request, plugins())] == [True, False]


def test_an_unknown_provider_is_named_with_what_there_is():
    with pytest.raises(UnknownName, match="no provider 'wob'; there is web, web_local, web_lyrics; did you mean 'web'"):
        asked(plugins(), provider=Choice(name="wob"))


def test_a_name_of_two_plugins_must_be_qualified():
    both = Plugins(entry_points=False, extra={"a": Offers(spec()), "b": Offers(spec())})
    with pytest.raises(AmbiguousName, match="a:one or b:one"):
        asked(both, provider=Choice(name="one"))
    (turn,) = asked(both, provider=Choice(name="b:one"))
    assert turn.stage.name == "b:one"


@pytest.mark.parametrize("part", ["provider", "lyrics", "metadata"])
def test_nobody_is_asked_for_what_he_does_not_give(part):
    sings = spec("sings", supplies=frozenset({"lyrics"}))
    talks = spec("talks", supplies=frozenset({"caption"}))
    wrong = "talks" if part in ("lyrics", "metadata") else "sings"
    with pytest.raises(ConfigError, match=f"'{wrong}' gives"):
        asked(plugins(sings, talks), **{part: Choice(name=wrong)})


def test_what_is_missing_is_said_before_anything_begins():
    with pytest.raises(LoadError, match="needs no-such-thing: pip install 'extra\\[of\\]'"):
        asked(plugins(spec(needs=("no-such-thing",), extra="extra[of]")), provider=Choice(name="one"))


def test_what_an_optional_one_lacks_is_left_to_its_turn():
    found = plugins(spec(needs=("no-such-thing",)))
    request = DescribeRequest(config=CaptionsConfig(), provider=Choice(name="one"), optional=frozenset({"one"}))
    (turn,) = find_asked(request, found)
    with pytest.raises(LoadError, match="needs no-such-thing"):
        turn.open()


def test_a_secret_comes_from_the_service_that_the_provider_names():
    found = plugins(web=SECRET)
    (turn,) = asked(found, provider=web("web_local"))
    assert turn.config.key == SECRET
    assert found.manager.get_plugin("safe").asked == ["web"]


def test_a_provider_without_a_service_is_its_own():
    made = with_secret(spec("one", config=WebConfig), None, plugins(one=SECRET))
    assert made.key == SECRET


def test_what_was_given_comes_before_the_secret():
    found = plugins(web=SECRET)
    (turn,) = asked(found, provider=web(key=" given\n"))
    assert turn.config.key == "given"
    assert found.manager.get_plugin("safe").asked == []


def test_without_a_secret_the_setting_stays_empty():
    (turn,) = asked(plugins(), provider=web())
    assert turn.config.key is None


@pytest.mark.parametrize("key", ["two words", "schlüssel", "tab\tinside", "nul\0"])
def test_a_secret_that_cannot_be_one_is_refused_and_not_shown(key):
    with pytest.raises(ConfigError, match="the key for web") as caught:
        asked(plugins(), provider=web(key=key))
    assert key not in str(caught.value)


@config
class TwoSecrets:
    """Settings with two secrets and something else."""

    token: str = option(default="", secret=True, help="One.")
    password: str | None = option(default=None, secret=True, help="Another.")
    name: str = option(default="sidestep-name", help="No secret.")


def test_every_secret_is_hidden_and_nothing_else():
    made = TwoSecrets(token=SECRET, password="other-secret")
    turn = Asked(stage=None, spec=spec(), config=made)
    assert turn.hide(f"{SECRET} and other-secret of sidestep-name") == "*** and *** of sidestep-name"
    assert SECRET not in repr(turn)


def test_letters_that_somebody_calls_a_secret_do_not_tear_texts_apart():
    turn = Asked(stage=None, spec=spec(), config=TwoSecrets(token="a"))
    assert turn.hide("a banana") == "a banana"


def test_a_provider_that_cannot_be_loaded_says_why():
    with pytest.raises(LoadError, match=r"provider 'one' cannot be loaded from no\.such:Thing"):
        check_provider(Choice(name="one"), plugins(spec()))


def test_a_check_that_fails_names_the_provider():
    with pytest.raises(ProviderError, match=r"web: the server cannot be reached") as caught:
        check_provider(web(key=SECRET), plugins())
    assert caught.value.kind == "unreachable"


def test_a_request_says_what_it_is():
    request = DescribeRequest(config=CaptionsConfig(), provider=web(key=SECRET))
    assert SECRET not in repr(request)
    assert attrs.evolve(request, lyrics=web("web_lyrics")).metadata is None
