"""The lyrics on a page of Genius, read without running anything on it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser

_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_NOT_SUNG = frozenset({"script", "style", "noscript", "button", "svg", "iframe"})
_STATE = re.compile(r"window\.__PRELOADED_STATE__\s*=\s*JSON\.parse\('([^'\\]*+(?:\\.[^'\\]*+)*+)'\)", re.DOTALL)
_HEADER = re.compile(r"\s*\[([^\[\]\n]{1,200})\]\s*")
_PERFORMER = re.compile(r"\s*[:：].*|\s+[-–—]\s+.*|\s+\([^()]*\)\s*$", re.DOTALL)
# what some pages begin with is the song's name in the words of the language, not a section
_NAMES_SONG = re.compile(
    r"(?:letra de|letra da|paroles de|testo di|songtext zu|текст песни|lyrics (?:for|to|of)|versuri|tekst piosenki)\b",
    re.IGNORECASE,
)
_FURNITURE = re.compile(r"\d+ contributors?.*lyrics|you might also like|\d*embed|see .+ live", re.IGNORECASE)


def page_lyrics(page: str) -> str:
    """Return the lyrics of a song's page, sections headed by bare labels; "" where there are none."""
    text = _in_containers(page, everything=False) or _in_state(page)
    lines = [clean_header(line.strip()) for line in text.split("\n")]
    kept = [line for line in lines if line is not None]
    while kept and _FURNITURE.fullmatch(kept[0]):
        del kept[0]
    while kept and (not kept[-1] or _FURNITURE.fullmatch(kept[-1])):
        del kept[-1]
    # sections are apart, also where a page breaks its lyrics up for something else
    text = re.sub(r"\n(?=\[[^\[\]\n]+\](?:\n|$))", "\n\n", "\n".join(kept))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def clean_header(line: str) -> str | None:
    """Return a line whose section header lost its performers, as it is if it is none, None if it names the song."""
    match = _HEADER.fullmatch(line)
    if match is None:
        return line
    if _NAMES_SONG.match(match[1].strip()):
        return None
    label = _PERFORMER.sub("", match[1]).strip()
    return f"[{label or match[1].strip()}]"


def _in_containers(page: str, *, everything: bool) -> str:
    reader = _Reader(everything)
    reader.feed(page)
    reader.close()
    return "\n".join(filter(None, ("".join(part).strip("\n") for part in reader.parts)))


def _in_state(page: str) -> str:
    """Return the lyrics in the state that a page's script starts with; it is read as text."""
    match = _STATE.search(page)
    if match is None:
        return ""
    # a JavaScript string of JSON: taking one layer of backslashes off leaves the JSON
    text = re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], match[1], flags=re.DOTALL)
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    for name in ("songPage", "lyricsData", "body", "html"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return _in_containers(found, everything=True) if isinstance(found, str) else ""


class _Reader(HTMLParser):
    """Gathers the text in lyrics containers, or of everything, less what is marked as no part of the lyrics."""

    def __init__(self, everything: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[list[str]] = [[]] if everything else []
        # how deep the parser is in a container, and in something within it that is left out
        self._inside = self._outside = 0
        self._everything = everything

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Go down one element."""
        given = dict(attrs)
        if tag in _VOID:
            if tag == "br" and self._counts():
                self.parts[-1].append("\n")
            return
        if not self._inside and not self._everything:
            if given.get("data-lyrics-container") == "true":
                self._inside = 1
                self.parts.append([])
            return
        self._inside += 1
        if self._outside or tag in _NOT_SUNG or given.get("data-exclude-from-selection") == "true":
            self._outside += 1

    def handle_endtag(self, tag: str) -> None:
        """Go up one element."""
        if tag not in _VOID and self._inside:
            self._inside -= 1
            self._outside = max(self._outside - 1, 0)
            if self._everything and tag == "p" and self._counts():
                self.parts[-1].append("\n\n")

    def handle_data(self, data: str) -> None:
        """Take text; a line break in the page's source is none in the lyrics."""
        if self._counts():
            self.parts[-1].append(re.sub(r"\s*\n\s*", " " if data.strip() else "", data))

    def _counts(self) -> bool:
        return (self._inside > 0 or self._everything) and not self._outside
