"""A language stated in any usual way is known, and a guess contradicts it only where it can."""

from __future__ import annotations

import pytest
from sidestep_core.language_guess import LanguageGuesser
from sidestep_core.languages import LANGUAGES, contradicts, is_latin, language_code

RAIN = {
    "en": "the rain is falling on the empty streets tonight and I am walking home without a light",
    "de": "der Regen fällt auf unsere Straßen und ich gehe ganz allein durch diese lange Nacht nach Haus",
    "fr": "la pluie tombe sur les rues vides et je rentre tout seul sans lumière dans la nuit",
    "es": "la lluvia cae sobre las calles vacías y yo camino solo hasta mi casa sin ninguna luz",
    "ja": "雨が静かに降っている夜の街を歩いて、私はひとりで家へ帰る",
    "ko": "비가 내리는 밤거리를 나는 혼자 걸어서 집으로 돌아간다",
    "ru": "дождь идёт над пустыми улицами, и я один иду домой без света этой ночью",
}


@pytest.fixture(scope="module")
def guesser() -> LanguageGuesser:
    return LanguageGuesser()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(("en", "en"), ("EN", "en"), ("en-US", "en"), ("pt_BR", "pt"), ("English", "en"), (" Japanese ", "ja")),
        *(("jp", "ja"), ("Mandarin Chinese", "zh"), ("yue", "yue")),
        *(("unknown", ""), ("", ""), ("xx", ""), ("!", "")),
    ],
)
def test_a_language_is_known_by_code_or_name(text: str, code: str) -> None:
    assert language_code(text) == code


@pytest.mark.parametrize(
    ("stated", "guessed", "lyrics", "contradiction"),
    [
        ("en", "de", RAIN["de"], True),
        ("English", "de", RAIN["de"], True),
        ("en", "en", RAIN["en"], False),
        ("unknown", "de", RAIN["de"], False),
        ("en", "", "la la", False),
        ("no", "da", "jeg elsker dig", False),  # nobody tells these apart
        ("ja", "id", "ame ga futte iru yoru no machi", False),  # romanised
        ("en", "ja", RAIN["ja"], True),
        ("ja", "en", RAIN["en"], False),  # Latin letters may be romanised
        ("ja", "ko", RAIN["ko"], True),
    ],
)
def test_only_what_cannot_be_so_contradicts(stated: str, guessed: str, lyrics: str, contradiction: bool) -> None:
    assert contradicts(stated, guessed, lyrics) is contradiction


@pytest.mark.parametrize(
    ("text", "latin"), [("Été", True), ("夜に駆ける", False), ("夜 oh yeah", True), ("123", False)]
)
def test_letters_decide_what_is_latin(text: str, latin: bool) -> None:
    assert is_latin(text) is latin


@pytest.mark.parametrize("code", RAIN)
def test_the_language_of_a_verse_is_guessed(guesser: LanguageGuesser, code: str) -> None:
    assert guesser.guess(RAIN[code]) == code


@pytest.mark.parametrize("text", ["", "la la la", "la la " * 500, "[Verse 1]\n[Chorus]", "(ooh)\n(aah)\noh no"])
def test_nothing_is_guessed_from_little(guesser: LanguageGuesser, text: str) -> None:
    assert guesser.guess(text) == ""


def test_section_names_and_backing_vocals_are_no_part_of_the_language(guesser: LanguageGuesser) -> None:
    english = "[Verse with a long English remark about how it is to be sung]\n(and the choir behind it sings along)\n"
    assert guesser.guess(english * 5 + RAIN["de"]) == "de"


def test_a_guess_is_always_a_language_that_the_model_knows(guesser: LanguageGuesser) -> None:
    esperanto = "la pluvo falas sur la malplenaj stratoj kaj mi iras hejmen sola en la nokto sen lumo"
    assert guesser.guess(esperanto) in ("", *LANGUAGES)
