"""A statistical guess at the language of lyrics."""

from __future__ import annotations

import re

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from sidestep_core.languages import LANGUAGES, is_latin

_ASIDE = re.compile(r"\[[^\]\n]*\]|\([^)\n]*\)")  # [Chorus], (ooh)
_LETTERS = 40  # fewer are too few for a guess; half of them are enough where each stands for a syllable or a word
_SURE = 0.9


class LanguageGuesser:
    """Guesses languages; making one takes half a second."""

    def __init__(self) -> None:
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._identifier.set_languages(sorted(LANGUAGES))

    def guess(self, lyrics: str) -> str:
        """Return the code of the language of lyrics, "" where it is not clear."""
        # each word once: a hundred times "la la" says no more than one
        text = " ".join(dict.fromkeys(_ASIDE.sub(" ", lyrics).lower().split()))
        letters = sum(map(str.isalpha, text))
        if letters < (_LETTERS if is_latin(text) else _LETTERS / 2):
            return ""
        code, probability = self._identifier.classify(text)
        return str(code) if float(probability) >= _SURE else ""
