"""Languages that lyrics can be in, by the codes that ACE-Step knows, and which of them a text cannot be in."""

from __future__ import annotations

import re

LANGUAGES = (
    *("ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hr", "ht", "hu"),
    *("id", "is", "it", "ja", "ko", "la", "lt", "ms", "ne", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sa", "sk", "sr"),
    *("sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yue", "zh"),
)
_NAMES = {
    **{"english": "en", "chinese": "zh", "mandarin": "zh", "cantonese": "yue", "japanese": "ja", "korean": "ko"},
    **{"spanish": "es", "french": "fr", "german": "de", "portuguese": "pt", "italian": "it", "russian": "ru"},
    **{"dutch": "nl", "polish": "pl", "turkish": "tr", "arabic": "ar", "hindi": "hi", "swedish": "sv", "jp": "ja"},
}
_OTHER_SCRIPTS = frozenset(
    [
        *("ar", "bg", "bn", "el", "fa", "he", "hi", "ja", "ko", "ne", "pa"),
        *("ru", "sa", "sr", "ta", "te", "th", "uk", "ur", "yue", "zh"),
    ]
)
# languages that even longer texts do not tell apart
_ALIKE = ({"id", "ms"}, {"hr", "sr"}, {"da", "no"}, {"hi", "ne", "sa"}, {"cs", "sk"}, {"zh", "yue"}, {"bg", "ru", "uk"})
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")


def language_code(text: str) -> str:
    """Return the code of a language given by code or name (`en`, `en-US`, `English`), "" for one that is not known."""
    word = re.split(r"[\W_]+", text.strip().lower())[0]
    code = _NAMES.get(word, word)
    return code if code in LANGUAGES else ""


def contradicts(stated: str, guessed: str, lyrics: str) -> bool:
    """Tell whether a guess contradicts the language that lyrics are said to be in.

    Romanised lyrics, languages that are hard to tell apart and a language that is not known contradict nothing.

    Args:
        stated: code or name.
        guessed: code; "" is no guess.
        lyrics: the text.
    """
    code = language_code(stated)
    if not code or guessed in ("", code) or any({code, guessed} <= alike for alike in _ALIKE):
        return False
    return not (code in _OTHER_SCRIPTS and is_latin(lyrics))


def is_latin(text: str) -> bool:
    """Tell whether most letters of a text are Latin."""
    return len(_LATIN.findall(text)) > sum(map(str.isalpha, text)) / 2
