"""Genius: finds a song by title and artist, compares what it found, and reads the lyrics off the song's page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import attrs
from sidestep_core.errors import ProviderError
from sidestep_core.interfaces import Confidence, Description, Track
from sidestep_core.specs import BuildContext

from sidestep_captioners.configs import GeniusConfig
from sidestep_captioners.failures import need_key
from sidestep_captioners.genius_match import bare_title, fold, match_score
from sidestep_captioners.genius_page import page_lyrics
from sidestep_captioners.http import Http, need_url, never

_SURE, _NEAR = 0.95, 0.5
_HOW = "set GENIUS_API_TOKEN, or keep one with 'sidestep keys set genius'"
_INSTRUMENTAL = frozenset({"instrumental", "this song is an instrumental"})


@attrs.frozen(kw_only=True)
class Hit:
    """A song that a search found: its number, page, names, and how alike it is to what was looked for."""

    number: int
    path: str
    title: str
    score: float


class GeniusProvider:
    """Looks lyrics up; needs no audio."""

    def __init__(self, config: GeniusConfig, context: BuildContext) -> None:
        self._config = config
        self._http: Http | None = None
        self._token = ""

    def __enter__(self) -> Self:
        self._http = self._open()
        return self

    def __exit__(self, *error: object) -> None:
        if self._http is not None:
            self._http.close()

    def check(self) -> str:
        """Search once with the token, which fails where the token is not good."""
        http = self._open()
        try:
            self._search(http, "hello", never)
        finally:
            http.close()
        return "Genius answers, and knows the token"

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Return the lyrics of the song that is alike enough; raise `ProviderError` where there is none."""
        assert self._http is not None, "the provider is not entered"
        hit = self._find(self._http, track, cancelled)
        fields: dict[str, str] = {}
        if wanted & {"language", "is_instrumental"}:
            fields |= self._facts(self._http, hit, cancelled)
        if "lyrics" in wanted:
            fields |= self._lyrics(self._http, hit, cancelled)
        confidence = _confidence(track, hit)
        fields = {field: value for field, value in fields.items() if field in wanted and value}
        doubts = () if confidence == "high" else (f"found as '{hit.title}', {hit.score:.0%} alike",)
        return Description(
            fields=fields,
            confidence=dict.fromkeys(fields, confidence),
            doubts=doubts,
            source=f"{self._config.web_url}{hit.path} ({hit.score:.2f})",
        )

    def _open(self) -> Http:
        self._token = need_key(self._config.token, _HOW)
        need_url(self._config.api_url, "give --genius-api-url")
        return Http(timeout=self._config.timeout, secret=self._token)

    def _find(self, http: Http, track: Track, cancelled: Callable[[], bool]) -> Hit:
        """Return the hit most alike, by the first question that brings one that is alike enough."""
        best: Hit | None = None
        for words in _questions(track):
            hits = [hit for found in self._search(http, words, cancelled) if (hit := _read_hit(found, track))]
            best = max([*hits, *([best] if best else [])], key=lambda hit: hit.score, default=None)
            if best is not None and best.score >= self._config.least_score:
                return best
        near = best if best is not None and best.score >= _NEAR else None
        nearest = f"; the nearest is '{near.title}', {near.score:.0%} alike" if near is not None else ""
        raise ProviderError(f"Genius does not know the song{nearest}", kind="not found")

    def _search(self, http: Http, words: str, cancelled: Callable[[], bool]) -> list[Mapping[str, Any]]:
        answer = self._api(http, "/search", cancelled, q=words)
        hits = answer.get("hits")
        found = [hit.get("result") for hit in hits if isinstance(hit, Mapping)] if isinstance(hits, list) else None
        if found is None:
            raise ProviderError("Genius answers the search with something else", kind="bad answer")
        return [result for result in found if isinstance(result, Mapping)]

    def _facts(self, http: Http, hit: Hit, cancelled: Callable[[], bool]) -> dict[str, str]:
        song = self._api(http, f"/songs/{hit.number}", cancelled).get("song")
        song = song if isinstance(song, Mapping) else {}
        instrumental = song.get("instrumental")
        known = {"is_instrumental": str(instrumental).lower()} if isinstance(instrumental, bool) else {}
        return {**known, "language": str(song.get("language") or "")}

    def _api(self, http: Http, path: str, cancelled: Callable[[], bool], **params: str) -> Mapping[str, Any]:
        url = need_url(self._config.api_url, "give --genius-api-url") + path
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = http.ask("GET", url, cancelled=cancelled, headers=headers, params=params).json()
        inner = answer.get("response") if isinstance(answer, Mapping) else None
        return inner if isinstance(inner, Mapping) else {}

    def _lyrics(self, http: Http, hit: Hit, cancelled: Callable[[], bool]) -> dict[str, str]:
        # no token: pages are for everybody
        url = need_url(self._config.web_url, "give --genius-web-url") + hit.path
        reply = http.send("GET", url, cancelled=cancelled, follow=True)
        if reply.status == 404:
            raise ProviderError(f"Genius has no page for '{hit.title}'", kind="not found")
        if reply.status == 403:
            raise ProviderError("Genius takes this machine for a robot and does not show its page", kind="refused")
        http.check(reply)
        text = page_lyrics(reply.text)
        if fold(text) in _INSTRUMENTAL:
            return {"is_instrumental": "true"}
        if not text:
            raise ProviderError(f"Genius has no lyrics of '{hit.title}' yet", kind="not found")
        return {"lyrics": text}


def _questions(track: Track) -> Iterator[str]:
    """Yield what to search for: as it is written, without accents and additions, and the title alone."""
    title = bare_title(track.title)
    asked = (f"{track.artist} {title}", fold(f"{track.artist} {title}"), title)
    yield from dict.fromkeys(words for part in asked if (words := part.strip()))


def _read_hit(found: Mapping[str, Any], track: Track) -> Hit | None:
    """Return a search result as a hit, None for one that is no song's own page."""
    primary = found.get("primary_artist")
    main = str(primary.get("name", "")) if isinstance(primary, Mapping) else ""
    path, title = str(found.get("path") or ""), str(found.get("title") or "")
    if not path.startswith("/") or path.startswith("//") or not title or main.startswith("Genius "):
        return None
    artists = [main, str(found.get("artist_names") or "")]
    score = match_score(track.title, track.artist, title, artists)
    full = f"{main} - {title}" if main else title
    number = found.get("id")
    return Hit(number=number if isinstance(number, int) else 0, path=path, title=full, score=score)


def _confidence(track: Track, hit: Hit) -> Confidence:
    if not track.artist:
        return "low"
    return "high" if hit.score >= _SURE else "medium"
