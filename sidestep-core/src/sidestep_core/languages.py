"""Names and codes of the languages that ACE-Step knows, and which of them a text cannot be in."""

from __future__ import annotations

import re
from collections.abc import Callable

# code: English name, other names and codes
_NAMES = {
    "ar": "arabic ara",
    "az": "azerbaijani aze",
    "bg": "bulgarian bul",
    "bn": "bengali ben bangla",
    "ca": "catalan cat",
    "cs": "czech ces cze",
    "da": "danish dan dansk",
    "de": "german deu ger deutsch",
    "el": "greek ell gre",
    "en": "english eng",
    "es": "spanish spa español espanol castilian",
    "fa": "persian fas per farsi",
    "fi": "finnish fin suomi",
    "fr": "french fra fre français francais",
    "he": "hebrew heb iw",
    "hi": "hindi hin",
    "hr": "croatian hrv",
    "ht": "haitian hat",
    "hu": "hungarian hun magyar",
    "id": "indonesian ind",
    "is": "icelandic isl ice",
    "it": "italian ita italiano",
    "ja": "japanese jpn jp 日本語",
    "ko": "korean kor kr 한국어",
    "la": "latin lat",
    "lt": "lithuanian lit",
    "ms": "malay msa may",
    "ne": "nepali nep",
    "nl": "dutch nld dut nederlands flemish",
    "no": "norwegian nor nb nn norsk",
    "pa": "punjabi pan panjabi",
    "pl": "polish pol polski",
    "pt": "portuguese por português portugues",
    "ro": "romanian ron rum",
    "ru": "russian rus русский",
    "sa": "sanskrit san",
    "sk": "slovak slk slo",
    "sr": "serbian srp",
    "sv": "swedish swe svenska",
    "sw": "swahili swa",
    "ta": "tamil tam",
    "te": "telugu tel",
    "th": "thai tha",
    "tl": "tagalog tgl filipino fil",
    "tr": "turkish tur türkçe",
    "uk": "ukrainian ukr українська",
    "ur": "urdu urd",
    "vi": "vietnamese vie",
    "yue": "cantonese",
    "zh": "chinese zho chi mandarin cn cmn 中文",
}
LANGUAGES = frozenset(_NAMES)
_CODES = {name: code for code, names in _NAMES.items() for name in (code, *names.split())}
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
    """Return the code of a language given by code, locale or name, "" if it is none that the model knows."""
    words = re.split(r"[\s,;/_()-]+", text.lower())
    return next((_CODES[word] for word in words if word in _CODES), "")


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


def load_guesser() -> Callable[[str], str] | None:
    """Return what guesses the language of lyrics, "" where it is not clear; None where py3langid is not installed."""
    try:
        from sidestep_core.language_guess import LanguageGuesser
    except ModuleNotFoundError as error:
        if error.name != "py3langid":
            raise
        return None
    return LanguageGuesser().guess
