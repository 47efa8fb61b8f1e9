"""How alike a song is to what a search found: by title and by artist, whatever the accents and the additions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher

# letters that are not made of a base and an accent
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_BRACKETS = re.compile(r"\s*[(\[（【][^()\[\]（）【】]*[)\]）】]")
_INSIDE = re.compile(r"[(\[（【]([^()\[\]（）【】]*)[)\]）】]")
_FEATURED = re.compile(r"\s+(?:feat|ft|featuring)\b\.?.*", re.IGNORECASE)
_EDITION = re.compile(
    r"\s+[-–—]\s+.*\b(?:remaster(?:ed)?|live|version|edit|mix|mono|stereo|demo|acoustic|bonus|single)\b.*",
    re.IGNORECASE,
)
_SEVERAL = re.compile(r"\s*(?:,|;|&|/|\+|\s+(?:x|and|und|et|y|vs\.?|with)\s+)\s*", re.IGNORECASE)
# a song with additions is a little less than the song itself
_WITHOUT_ADDITIONS = 0.97


def fold(text: str) -> str:
    """Return a name's letters and figures without accents, case and punctuation, as words."""
    lowered = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    kept = (c if c.isalnum() else " " for c in lowered if not unicodedata.combining(c))
    return " ".join("".join(kept).split())


def bare_title(title: str) -> str:
    """Return a title without "(Live)", "feat. somebody" and "- Remastered 2011"."""
    return _EDITION.sub("", _FEATURED.sub("", _BRACKETS.sub("", title))).strip() or title


def match_score(title: str, artist: str, found_title: str, found_artists: list[str]) -> float:
    """Return how alike a song and a finding are, 0 to 1: as alike as the less alike of title and artist."""
    by_title = max(_alike(title, found_title), _WITHOUT_ADDITIONS * _alike(bare_title(title), bare_title(found_title)))
    if not artist:
        return by_title
    names = [name for found in found_artists for name in _names(found)]
    by_artist = max((_alike(own, other) for own in _names(artist) for other in names), default=0.0)
    return min(by_title, by_artist)


def _names(artist: str) -> Iterator[str]:
    """Yield an artist's name as it is, without and within brackets, and of several the first."""
    plain = _FEATURED.sub("", _BRACKETS.sub("", artist)).strip()
    yield from (artist, plain, *_INSIDE.findall(artist), _SEVERAL.split(plain)[0])


def _alike(one: str, other: str) -> float:
    # a name of signs alone, such as "!!!", is compared as it is
    one, other = (fold(name) or name.strip() for name in (one, other))
    return SequenceMatcher(None, one, other, autojunk=False).ratio() if one and other else 0.0
