"""What is wrong with the words about a song: captions and lyrics that are missing, too long or in another language."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from sidestep_core.configs import Conditioning
from sidestep_core.doctor.report import CheckedSong, Finding, Kind
from sidestep_core.languages import contradicts, language_code
from sidestep_core.prompts import MAX_LYRICS_TOKENS, MAX_PROMPT_TOKENS
from sidestep_core.songs import INSTRUMENTAL, Song, is_labeled

Count = Callable[[str], int]
_BYTES_A_TOKEN = 3.5  # of lyrics in the text encoder's vocabulary; 3 to 5 in the languages that people sing in


@attrs.frozen(kw_only=True)
class Reader:
    """Reads the texts of songs as preprocessing makes them.

    Attributes:
        conditioning: shape of the lyrics, which decides how long they may be.
        count: counts the tokens of a text; None estimates them from its length.
    """

    conditioning: Conditioning
    count: Count | None

    def findings(self, song: Song, told: CheckedSong) -> Iterator[Finding]:
        """Yield what is wrong with the words of a song and with what the model is told of it."""
        if not is_labeled(song):
            yield Finding(song=song.name, kind="no caption", reason=f"described by its file name: '{song.caption}'")
        if not song.instrumental and song.lyrics == INSTRUMENTAL:
            yield Finding(song=song.name, kind="no lyrics", reason="is_instrumental is false, and there are no lyrics")
        if "<CAPTION>" in song.lyrics:
            reason = "ai-toolkit's layout, read as lyrics; 'sidestep convert-sidecars' makes it a sidecar"
            yield Finding(song=song.name, kind="sidecar", reason=reason)
        yield from self._cut(song, "cut prompt", told.prompt, MAX_PROMPT_TOKENS)
        yield from self._cut(song, "cut lyrics", told.lyrics, MAX_LYRICS_TOKENS[self.conditioning])
        if contradicts(song.language, told.language, song.lyrics):
            reason = f"said to be '{song.language}', and the lyrics look like '{told.language}'"
            yield Finding(song=song.name, kind="language", reason=reason)
        elif told.language and not language_code(song.language):
            reason = f"'{song.language}' to the model; the lyrics look like '{told.language}'"
            yield Finding(song=song.name, kind="language", reason=reason)

    def _cut(self, song: Song, kind: Kind, text: str, limit: int) -> Iterator[Finding]:
        size = len(text.encode())
        if size <= limit:  # no token is less than a byte
            return
        tokens = self.count(text) if self.count else round(size / _BYTES_A_TOKEN)
        if tokens > limit:
            reason = f"{tokens:,} tokens, of which {limit:,} are used"
            if self.count is None:
                reason = f"about {tokens:,} tokens, estimated by length, of which {limit:,} are used"
            yield Finding(song=song.name, kind=kind, reason=reason, dropped=True)
