"""The one way from what goes wrong on a network to the typed error of a provider."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from sidestep_core.describing.request import HIDDEN, SHORTEST_SECRET
from sidestep_core.errors import ConfigError, ProviderError, ProviderFailure
from sidestep_core.keys import clean_key

_LONGEST = 200
_KINDS: Mapping[int, ProviderFailure] = {
    401: "key",
    402: "quota",
    403: "key",
    # no such address or no such model: with these settings no song will fare better
    404: "key",
    405: "key",
    408: "unreachable",
    409: "unreachable",
    413: "too large",
    425: "unreachable",
    429: "rate",
}
# what services call a limit that waiting does not lift
_SPENT = re.compile(r"insufficient_quota|billing|exceeded your current quota|out of credits", re.IGNORECASE)


def failed(
    host: str, status: int, body: str, headers: Mapping[str, str] | None = None, *, secret: str
) -> ProviderError:
    """Return the error for an answer with a status that is none of success.

    Args:
        host: who answered.
        status: its status.
        body: its text, JSON or not.
        headers: its headers, with names in any case.
        secret: what must not be shown, even where the service repeats it.
    """
    kind = _KINDS.get(status, "unreachable" if status >= 500 else "refused")
    if kind == "rate" and _SPENT.search(body):
        kind = "quota"
    reason = hide(_reason(body), secret)
    return ProviderError(
        f"{host} answers {status}{': ' if reason else ''}{reason}",
        kind=kind,
        retry_after=retry_after(headers or {}) if kind in ("rate", "unreachable") else None,
    )


@contextmanager
def typed_failures(host: str, *, secret: str) -> Iterator[None]:
    """Make what fails on the way to a server a `ProviderError` ("unreachable")."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise ProviderError(f"{host} did not answer in time", kind="unreachable") from error
    except httpx2.DecodingError as error:
        raise ProviderError(f"{host} sent an answer that is damaged", kind="unreachable") from error
    except (httpx2.RequestError, OSError) as error:
        reason = hide(_one_line(str(error)), secret) or type(error).__name__
        raise ProviderError(f"{host} cannot be reached: {reason}", kind="unreachable") from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a service asks to wait, None where it does not say or what it says is none."""
    given = {name.lower(): value.strip() for name, value in headers.items()}
    try:
        if "retry-after-ms" in given:
            return _seconds(float(given["retry-after-ms"]) / 1000)
        return _seconds(float(given["retry-after"])) if "retry-after" in given else None
    except ValueError:
        return _until(given["retry-after"]) if "retry-after" in given else None


def need_key(key: str | None, how: str) -> str:
    """Return a key that can stand in a header.

    Raises:
        ProviderError: there is none, or it is none; it is not shown ("key").
    """
    if not key or not key.strip():
        raise ProviderError(f"no key: {how}", kind="key")
    try:
        return clean_key(key, "the service")
    except ConfigError as error:
        raise ProviderError(str(error), kind="key") from None


def hide(text: str, secret: str) -> str:
    """Return a text without a secret."""
    return text.replace(secret, HIDDEN) if len(secret) >= SHORTEST_SECRET else text


def _reason(body: str) -> str:
    """Return what a service says about its failure, in one line."""
    try:
        said = json.loads(body)
    except ValueError:
        said = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<[^>]*>", " ", body)
    for _ in range(3):
        if isinstance(said, list) and said:
            said = said[0]
        if isinstance(said, Mapping):
            said = next((said[name] for name in ("error", "message", "detail", "msg") if said.get(name)), "")
    return _one_line(said) if isinstance(said, str) else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _seconds(value: float) -> float | None:
    return max(value, 0.0) if math.isfinite(value) else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
