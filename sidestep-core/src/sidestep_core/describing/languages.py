"""Names and codes of the languages that ACE-Step knows."""

from __future__ import annotations

import re

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


def language_code(text: str) -> str:
    """Return the code of a language given by code, locale or name, "" if it is none that the model knows."""
    words = re.split(r"[\s,;/_()-]+", text.lower())
    return next((_CODES[word] for word in words if word in _CODES), "")
