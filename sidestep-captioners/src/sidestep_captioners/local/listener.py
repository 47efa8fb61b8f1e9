"""Asking a loaded model about a recording: generation that can be stopped, and that keeps to its limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from sidestep_core.audio.source import Samples
from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.errors import Cancelled
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from sidestep_captioners.local.loading import Placement, free_memory, timed


@attrs.frozen
class Question:
    """What is asked, and whether the recording comes after the words instead of before them."""

    text: str
    recording_last: bool = False

    def around(self, sound: str) -> str:
        """Return the message with what stands for the recording in its place."""
        return self.text + sound if self.recording_last else sound + self.text


@attrs.frozen(kw_only=True)
class Effort:
    """How much a model is let do: seconds of audio at once, tokens of an answer, a cache of what it has read."""

    seconds: float
    max_tokens: int
    cache: bool = True


@attrs.frozen(kw_only=True)
class Answer:
    """What a model said, in how many tokens, and whether their limit cut it off."""

    text: str
    tokens: int
    cut: bool


class Listener(ABC):
    """A model that answers questions about recordings; what differs between models is how input is made."""

    def __init__(self, name: str, model: Any, tokenizer: Any, placement: Placement) -> None:
        self.name, self.model, self.tokenizer, self.placement = name, model, tokenizer, placement

    @abstractmethod
    def prepare(self, audio: Samples, question: Question) -> Mapping[str, Tensor]:
        """Return the model's input for a recording [samples] at 16 kHz and a question about it."""

    def close(self) -> None:
        """Free the memory that the model holds."""
        self.model = None
        free_memory(self.placement.device)

    @torch.inference_mode()
    def ask(
        self,
        audio: Samples,
        question: Question,
        effort: Effort,
        config: GenerationConfig,
        cancelled: Callable[[], bool],
    ) -> Answer:
        """Return the answer; raise `Cancelled` when `cancelled`, which is asked after every token, says so."""
        if cancelled():
            raise Cancelled("stopped")
        with timed("preparing", self.name):
            inputs = {name: tensor.to(self.model.device) for name, tensor in self.prepare(audio, question).items()}
        given, ends = inputs["input_ids"].shape[1], self._ends()
        stop = _Stop(cancelled)
        with timed("generating", self.name):
            made = self.model.generate(
                **inputs,
                **_wording(config),
                max_new_tokens=effort.max_tokens,
                eos_token_id=ends,
                pad_token_id=ends[0],
                use_cache=effort.cache,
                stopping_criteria=StoppingCriteriaList([stop]),
                logits_processor=LogitsProcessorList([_Penalties(config, given)]),
            )
        if stop.stopped:
            raise Cancelled("stopped")
        said = made[0, given:].tolist()
        with timed("decoding", self.name):
            text = self.tokenizer.decode(said, skip_special_tokens=True).strip()
        return Answer(text=text, tokens=len(said), cut=len(said) >= effort.max_tokens and said[-1] not in ends)

    def _ends(self) -> list[int]:
        """Return the tokens that end an answer, which not every checkpoint's own settings name."""
        named = self.model.generation_config.eos_token_id
        usual = (self.tokenizer.convert_tokens_to_ids("<|im_end|>"), self.tokenizer.eos_token_id)
        ends = dict.fromkeys([*usual, *(named if isinstance(named, list) else [named])])
        return [end for end in ends if end is not None]


def _wording(config: GenerationConfig) -> dict[str, Any]:
    """Return how words are chosen; what the model's own settings say of it does not count."""
    if config.temperature == 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "repetition_penalty": 1.0}
    chosen = {"temperature": config.temperature, "top_p": config.top_p, "top_k": 0}
    return {"do_sample": True, **chosen, "repetition_penalty": 1.0}


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Ends generation after the token at which the user asked to stop."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled
        self.stopped = False

    def __call__(self, input_ids: Tensor, scores: Any, **rest: Any) -> Tensor:
        self.stopped = self.stopped or self._cancelled()
        return torch.full((len(input_ids),), self.stopped, dtype=torch.bool, device=input_ids.device)


class _Penalties(LogitsProcessor):  # type: ignore[misc]
    """Makes tokens that the answer holds already less likely.

    The question and the thousands of places that stand for sound do not count, as they do in transformers' own.
    """

    def __init__(self, config: GenerationConfig, given: int) -> None:
        self._repetition, self._presence = config.repetition_penalty, config.presence_penalty
        self._frequency, self._given = config.frequency_penalty, given

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        said = input_ids[0, self._given :]
        if not len(said) or (self._repetition, self._presence, self._frequency) == (1.0, 0.0, 0.0):
            return scores
        tokens, counts = said.unique(return_counts=True)
        values = scores[0, tokens]
        values = torch.where(values > 0, values / self._repetition, values * self._repetition)
        made = scores.clone()
        made[0, tokens] = values - self._presence - self._frequency * counts
        return made
