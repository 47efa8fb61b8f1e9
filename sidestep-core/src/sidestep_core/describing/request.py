"""What is asked when songs are described, and of whom."""

from __future__ import annotations

import importlib.util
import logging
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.plan import ALONG, DESCRIPTION, LYRICS, METADATA, Stage
from sidestep_core.errors import ConfigError, LoadError, ProviderError, SidestepError
from sidestep_core.interfaces import Provider
from sidestep_core.keys import clean_key
from sidestep_core.options import options_of
from sidestep_core.plugins import Plugins
from sidestep_core.requests import Choice
from sidestep_core.specs import BuildContext, ProviderType

logger = logging.getLogger(__name__)
HIDDEN, SHORTEST_SECRET = "***", 6


@attrs.frozen(kw_only=True)
class DescribeRequest:
    """Everything that decides what happens to a folder of songs.

    Attributes:
        config: the songs and what may be overwritten.
        provider: gives captions, and the metadata that no other one gives; None for none.
        lyrics: gives lyrics.
        metadata: gives genre, tempo, key and time signature.
        optional: names of providers that are left out, with a notice, where they have no key.
    """

    config: CaptionsConfig
    provider: Choice | None = None
    lyrics: Choice | None = None
    metadata: Choice | None = None
    optional: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class Asked:
    """A provider that was found and set up.

    Attributes:
        stage: its turn.
        spec: the component.
        config: its settings, with its secret.
        optional: the others go on without it where it has no key.
    """

    stage: Stage
    spec: ProviderType
    config: Any = None
    optional: bool = False

    def build(self) -> Provider:
        """Import the provider and make it.

        Raises:
            LoadError: that failed; the message has no secret in it.
        """
        try:
            return self.spec.build(self.config, BuildContext())  # type: ignore[no-any-return]
        except LoadError as error:
            raise LoadError(self.hide(str(error))) from None

    def open(self) -> Provider:
        """Make the provider and enter it.

        Raises:
            LoadError: it cannot be made.
            ProviderError: it cannot work; the message has no secret in it.
        """
        provider = self.build()
        try:
            return provider.__enter__()
        except ProviderError as error:
            raise ProviderError(self.hide(str(error)), kind=error.kind) from None
        except SidestepError:
            raise
        except Exception as error:  # a provider of somebody else's
            self.log_failure()
            raise ProviderError(self.hide(f"{type(error).__name__}: {error}"), kind="unreachable") from None

    def close(self, provider: Provider) -> None:
        """Leave the provider; one that fails at that has nothing to take back any more."""
        try:
            provider.__exit__(None, None, None)
        except Exception:  # a provider of somebody else's
            self.log_failure()

    def log_failure(self) -> None:
        """Log the error at hand with its traceback, without secrets."""
        logger.error("provider %s: %s", self.stage.name, self.hide(traceback.format_exc()))

    def hide(self, text: str) -> str:
        """Return a text without the secrets of the provider's settings, whoever put them there."""
        for secret in _secrets(self.config):
            if len(secret) >= SHORTEST_SECRET:  # a word of one letter is in every text
                text = text.replace(secret, HIDDEN)
        return text


def find_asked(request: DescribeRequest, plugins: Plugins) -> list[Asked]:
    """Return the providers of a request in the order of their turns: lyrics, metadata, captions.

    One that has several parts has one turn. Lyrics come first since captions are better for knowing them.

    Raises:
        ConfigError: nobody is asked for anything, or one provider has different settings in two places.
        UnknownName, AmbiguousName: with what there is instead.
    """
    parts = ((request.lyrics, LYRICS), (request.metadata, METADATA), (request.provider, DESCRIPTION | ALONG))
    if importlib.util.find_spec("stamina") is None or importlib.util.find_spec("mutagen") is None:
        raise LoadError("describing songs needs stamina and mutagen: pip install 'sidestep-core[captions]'")
    given = [(choice, fields) for choice, fields in parts if choice is not None]
    if not given:
        raise ConfigError("nobody to ask: name a provider of captions, lyrics or metadata")
    fields: dict[str, frozenset[str]] = {}
    for choice, part in given:
        fields[choice.name] = fields.get(choice.name, frozenset()) | _given(choice.name, part, plugins)
    return [_find(name, fields[name], [c for c, _ in given if c.name == name], request, plugins) for name in fields]


def check_provider(choice: Choice, plugins: Plugins) -> str:
    """Return in one line what answers at a provider; raise `ProviderError` when nothing would."""
    spec: Any = plugins.find("provider", choice.name)
    stage = Stage(name=choice.name, fields=spec.supplies)
    asked = Asked(stage=stage, spec=spec, config=with_secret(spec, choice.config, plugins))
    try:
        return asked.hide(asked.build().check())
    except ProviderError as error:
        raise ProviderError(asked.hide(f"{choice.name}: {error}"), kind=error.kind) from None


def with_secret(spec: ProviderType, config: Any, plugins: Plugins) -> Any:
    """Return a provider's settings with its service's secret where none was given.

    Raises:
        ConfigError: a secret holds what no secret can; it is not shown.
    """
    if config is None and spec.config is not None:
        config = spec.config()
    service = spec.service or spec.name
    names = [option.name for option in _secret_options(config)]
    known = {name: getattr(config, name) for name in names}
    found = plugins.secret(service) if not all(known.values()) else None
    secrets = {name: clean_key(secret, service) for name in names if (secret := known[name] or found)}
    return attrs.evolve(config, **secrets) if secrets else config


def _given(name: str, fields: frozenset[str], plugins: Plugins) -> frozenset[str]:
    """Return what a provider gives of a part, or say that it has nothing of it."""
    spec: Any = plugins.find("provider", name)
    given = fields & spec.supplies
    if not given - ALONG:
        able, needed = (", ".join(sorted(names)) for names in (spec.supplies, fields - ALONG))
        raise ConfigError(f"provider {name!r} gives {able}; here it is asked for {needed}")
    return frozenset(given)


def _find(
    name: str, fields: frozenset[str], choices: list[Choice], request: DescribeRequest, plugins: Plugins
) -> Asked:
    spec: Any = plugins.find("provider", name)
    configs = [choice.config for choice in choices if choice.config is not None]
    if any(config != configs[0] for config in configs):
        raise ConfigError(f"provider {name!r} has different settings in two places")
    optional = name in request.optional
    if spec.missing() and not optional:
        spec.load()  # says what to install
    config = with_secret(spec, configs[0] if configs else None, plugins)
    return Asked(stage=Stage(name=name, fields=fields), spec=spec, config=config, optional=optional)


def _secret_options(config: Any) -> Iterator[Any]:
    return (option for option in options_of(type(config)) if option.secret) if config is not None else iter(())


def _secrets(config: Any) -> Iterable[str]:
    return [str(getattr(config, option.name) or "") for option in _secret_options(config)]
