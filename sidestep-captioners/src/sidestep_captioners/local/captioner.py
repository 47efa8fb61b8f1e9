"""Descriptions of songs by models of the Qwen2.5-Omni kind on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from sidestep_core.audio.source import Samples
from sidestep_core.describing.answers import read_answer
from sidestep_core.describing.normalise import normalise_all
from sidestep_core.describing.prompt import caption_prompt
from sidestep_core.errors import ProviderError
from sidestep_core.interfaces import Confidence, Description, Track
from sidestep_core.specs import BuildContext

from sidestep_captioners.local.configs import CaptionerConfig, FlamingoConfig
from sidestep_captioners.local.hearing import excerpt, hear
from sidestep_captioners.local.listener import Answer, Question
from sidestep_captioners.local.provider import Load, OpenModel
from sidestep_captioners.local.thinker import Thinker

# the one question that ACE-Step's captioner was trained on; it answers in prose
TRAINED = Question("*Task* Describe this audio in detail", recording_last=True)
_TRAINED_MODELS = ("acestep-captioner",)
_NOTE = r"[A-G](?:#|♯|b|♭|[ -](?:sharp|flat))?"
_MENTIONS: Mapping[str, re.Pattern[str]] = {
    "bpm": re.compile(r"(\d{2,3}(?:\.\d+)?)[ -]*(?:BPM\b|beats (?:per|a) minute)", re.IGNORECASE),
    "key": re.compile(rf"\b(?:[Ii]n|[Ff]rom|[Tt]o|[Kk]ey(?: of| is|:))\s+({_NOTE}[ -](?:[Mm]ajor|[Mm]inor))\b"),
    "signature": re.compile(r"(?<![\d/])(\d{1,2}/(?:2|4|8|16))(?![\d/])"),
}


class Captioner:
    """Describes songs: the caption and what is said in it, or every field that is wanted, as the model was taught."""

    def __init__(
        self, config: CaptionerConfig | FlamingoConfig, context: BuildContext, *, four_bit: bool, load: Load = Thinker
    ) -> None:
        self._config = config
        self._model = OpenModel(config, load, four_bit=four_bit)

    def __enter__(self) -> Self:
        """Load the model."""
        self._model.open()
        return self

    def __exit__(self, *error: object) -> None:
        """Let it go."""
        self._model.close()

    def check(self) -> str:
        """Say which model would listen, from where and how."""
        return self._model.check()

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Return what the model says of the wanted fields."""
        trained = self._model.listener.name in _TRAINED_MODELS
        question = TRAINED if trained else Question(caption_prompt(track, wanted, hears=True))
        audio = hear(track.path)
        answer, reduced = self._ask(audio, question, cancelled)
        fields = said_in_prose(answer.text, wanted) if trained else read_answer(answer.text, wanted)
        doubts = (*reduced, *_cut(answer))
        # in passing, a caption names tempo and key as it names moods: not measured
        unsure: dict[str, Confidence] = {name: "low" for name in fields if trained and name in _MENTIONS}
        return Description(fields=fields, confidence=unsure, doubts=doubts, source=self._model.listener.name)

    def _ask(self, audio: Samples, question: Question, cancelled: Callable[[], bool]) -> tuple[Answer, tuple[str, ...]]:
        listener = self._model.listener
        return self._model.attempt(
            audio,
            lambda effort: listener.ask(excerpt(audio, effort.seconds), question, effort, self._config, cancelled),
            whole=False,
        )


def captioner(config: CaptionerConfig, context: BuildContext) -> Captioner:
    """Return a captioner in bf16, for devices of 16 GB and more."""
    return Captioner(config, context, four_bit=False)


def four_bit_captioner(config: CaptionerConfig, context: BuildContext) -> Captioner:
    """Return a captioner in four bits, for devices of 8 to 10 GB."""
    return Captioner(config, context, four_bit=True)


def said_in_prose(text: str, wanted: frozenset[str]) -> dict[str, str]:
    """Return the caption, and the tempo, key and time signature that it names, where it names just one.

    Raises:
        ProviderError: there are no words in it ("bad answer"), or an excuse ("refused").
    """
    caption = read_answer({"caption": text}, frozenset({"caption"}))
    if not caption:
        raise ProviderError("the model said nothing", kind="bad answer")
    return {name: value for name, value in {**caption, **dict(_mentions(text))}.items() if name in wanted}


def _mentions(text: str) -> Iterator[tuple[str, str]]:
    for name, pattern in _MENTIONS.items():
        values = {value for found in pattern.findall(text) if (value := normalise_all({name: found}).get(name))}
        if len(values) == 1:
            yield name, values.pop()


def _cut(answer: Answer) -> Iterator[str]:
    if answer.cut:
        yield f"the answer was cut off at {answer.tokens} tokens"
