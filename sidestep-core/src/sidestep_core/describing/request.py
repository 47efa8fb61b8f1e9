"""What is asked when songs are described, and of whom."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.plan import ALONG, DESCRIPTION, LYRICS, METADATA, Stage
from sidestep_core.errors import ConfigError, LoadError, ProviderError, SidestepError
from sidestep_core.interfaces import Provider
from sidestep_core.options import options_of
from sidestep_core.plugins import Plugins
from sidestep_core.requests import Choice
from sidestep_core.specs import BuildContext, ProviderType

logger = logging.getLogger(__name__)
HIDDEN = "***"


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
        for secret in filter(None, _secrets(self.config)):
            text = text.replace(secret, HIDDEN)
        return text


def find_asked(request: DescribeRequest, plugins: Plugins) -> list[Asked]:
    """Return the providers of a request in the order of their turns: lyrics, metadata, captions.

    One that has several parts has one turn. Lyrics come first since captions are better for knowing them.

    Raises:
        ConfigError: nobody is asked for anything.
        UnknownName, AmbiguousName: with what there is instead.
    """
    parts = ((request.lyrics, LYRICS), (request.metadata, METADATA), (request.provider, DESCRIPTION | ALONG))
    found: dict[str, Asked] = {}
    for choice, fields in parts:
        if choice is None:
            continue
        asked = _find(choice, fields, plugins, optional=choice.name in request.optional)
        if (known := found.get(choice.name)) is not None and (choice.config is None or known.config == asked.config):
            fields = known.stage.fields | asked.stage.fields
            asked = attrs.evolve(known, stage=Stage(name=choice.name, fields=fields))
        found[choice.name] = asked
    if not found:
        raise ConfigError("nobody to ask: name a provider of captions, lyrics or metadata")
    return list(found.values())


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
    """Return a provider's settings with its service's secret where none was given."""
    if config is None and spec.config is not None:
        config = spec.config()
    empty = [option.name for option in _secret_options(config) if not getattr(config, option.name)]
    secret = plugins.secret(spec.service or spec.name) if empty else None
    return attrs.evolve(config, **dict.fromkeys(empty, secret)) if secret else config


def _find(choice: Choice, fields: frozenset[str], plugins: Plugins, *, optional: bool) -> Asked:
    spec: Any = plugins.find("provider", choice.name)
    given = fields & spec.supplies
    if not given - ALONG:
        able, needed = (", ".join(sorted(names)) for names in (spec.supplies, fields - ALONG))
        raise ConfigError(f"provider {choice.name!r} gives {able}; here it is asked for {needed}")
    if spec.missing() and not optional:
        spec.load()  # says what to install
    config = with_secret(spec, choice.config, plugins)
    return Asked(stage=Stage(name=choice.name, fields=given), spec=spec, config=config, optional=optional)


def _secret_options(config: Any) -> Iterator[Any]:
    return (option for option in options_of(type(config)) if option.secret) if config is not None else iter(())


def _secrets(config: Any) -> Iterable[str]:
    return [str(getattr(config, option.name) or "") for option in _secret_options(config)]
