"""Lyrics by ACE-Step's transcriber on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.audio.source import Samples
from sidestep_core.describing.answers import read_answer
from sidestep_core.interfaces import Description, Track
from sidestep_core.songs import INSTRUMENTAL
from sidestep_core.specs import BuildContext

from sidestep_captioners.local.configs import TranscriberConfig
from sidestep_captioners.local.hearing import hear, pieces, to_mono
from sidestep_captioners.local.listener import Answer, Effort, Question
from sidestep_captioners.local.provider import OpenModel
from sidestep_captioners.local.thinker import Thinker
from sidestep_captioners.stems.configs import DemucsConfig
from sidestep_captioners.stems.voice import Voice

TRAINED = Question("*Task* Transcribe this audio in detail", recording_last=True)
_ANSWERED = frozenset({"lyrics", "language"})


class Transcriber:
    """Writes down what is sung: all of a song, piece by piece if it is long, and in which language."""

    def __init__(self, config: TranscriberConfig, context: BuildContext) -> None:
        self._config = config
        self._model = OpenModel(config, Thinker, four_bit=config.memory == "8-10gb")
        demucs = DemucsConfig(device=config.device, allow_download=config.allow_download)
        self._voice = Voice(demucs) if config.vocals_only else None

    def __enter__(self) -> Self:
        """Load the model, and what separates the voice where that is wanted."""
        if self._voice is not None:
            self._voice.open()
        self._model.open()
        return self

    def __exit__(self, *error: object) -> None:
        """Let them go."""
        self._model.close()
        if self._voice is not None:
            self._voice.close()

    def check(self) -> str:
        """Say which model would listen, from where and how."""
        if self._voice is not None:
            self._voice.open()
            self._voice.close()
        return self._model.check()

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Return the lyrics, their language and whether there are any."""
        if self._voice is None:
            audio = hear(track.path)
        else:
            audio = to_mono(self._voice.hear(track.path, cancelled), SAMPLE_RATE)
        answers, reduced = self._model.attempt(audio, lambda effort: self._ask(audio, effort, cancelled), whole=True)
        cut = sum(answer.cut for answer in answers)
        fields = sung([answer.text for answer in answers])
        return Description(
            fields={name: value for name, value in fields.items() if name in wanted},
            doubts=(*reduced, *_cut(cut, len(answers))),
            source=self._model.listener.name,
        )

    def _ask(self, audio: Samples, effort: Effort, cancelled: Callable[[], bool]) -> list[Answer]:
        listener = self._model.listener
        parts = pieces(audio, effort.seconds)
        return [listener.ask(part, TRAINED, effort, self._config, cancelled) for part in parts]


def sung(texts: Sequence[str]) -> dict[str, str]:
    """Return what a song's pieces say: `# Languages` with codes and `# Lyrics` with the words, piece by piece.

    Raises:
        ProviderError: a piece says neither ("bad answer").
    """
    found = [read_answer(text, _ANSWERED) for text in texts]
    lyrics = "\n\n".join(part["lyrics"] for part in found if _has_words(part.get("lyrics", "")))
    languages = Counter(part["language"] for part in found if part.get("language") and lyrics)
    made = {"lyrics": lyrics or INSTRUMENTAL, "is_instrumental": "false" if lyrics else "true"}
    return {**made, "language": languages.most_common(1)[0][0]} if languages else made


def _has_words(lyrics: str) -> bool:
    lines = (line.strip() for line in lyrics.split("\n"))
    return any(line and not (line.startswith("[") and line.endswith("]")) for line in lines)


def _cut(cut: int, of: int) -> Iterator[str]:
    if cut:
        yield "the lyrics were cut off" if of == 1 else f"{cut} of {of} pieces of the lyrics were cut off"
