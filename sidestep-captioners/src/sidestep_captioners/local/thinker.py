"""The part of Qwen2.5-Omni that listens and writes; the part that speaks is not loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidestep_core.audio.source import Samples
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration, WhisperFeatureExtractor

from sidestep_captioners.local.hearing import RATE
from sidestep_captioners.local.listener import Listener, Question
from sidestep_captioners.local.loading import Placement, naming_failures, timed
from sidestep_captioners.local.weights import Located

SYSTEM = "You are a helpful assistant."


class Thinker(Listener):
    """A loaded model with what makes its input of a recording and a question.

    The tokenizer and the feature extractor do what the model's own processor does, to the bit; that one would want
    libraries for pictures.
    """

    def __init__(self, located: Located, placement: Placement) -> None:
        """Load it; nothing is fetched.

        Raises:
            ProviderError: it does not fit, or the files are not what they should be.
        """
        with timed("loading", located.name), naming_failures(located.name, placement):
            tokenizer = AutoTokenizer.from_pretrained(located.folder, local_files_only=True)
            self._extract = WhisperFeatureExtractor.from_pretrained(located.folder, local_files_only=True)
            model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
                located.folder, local_files_only=True, **placement.arguments()
            )
            model.model.visual = None  # it sees pictures: 1.3 GB that are of no use here
            self._sound = _special(tokenizer, "audio_token", "<|AUDIO|>")
            self._opening = _special(tokenizer, "audio_bos_token", "<|audio_bos|>")
            self._closing = _special(tokenizer, "audio_eos_token", "<|audio_eos|>")
        super().__init__(located.name, model.eval(), tokenizer, placement)

    def prepare(self, audio: Samples, question: Question) -> Mapping[str, Tensor]:
        """Return the model's input for a recording [samples] at 16 kHz and a question about it."""
        heard = self._extract(
            [audio], sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        mask = heard["attention_mask"]
        sound = self._opening + self._sound * audio_tokens(int(mask.sum())) + self._closing
        words = self.tokenizer(chat(question.around(sound)), return_tensors="pt")
        return {
            **words,
            "input_features": heard["input_features"].to(self.placement.dtype),
            "feature_attention_mask": mask,
        }


def audio_tokens(frames: int) -> int:
    """Return how many tokens so many mel frames become: 25 a second."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def chat(message: str) -> str:
    """Return a message in the form in which these models were taught conversations."""
    turns = (("system", SYSTEM), ("user", message))
    return "".join(f"<|im_start|>{who}\n{text}<|im_end|>\n" for who, text in turns) + "<|im_start|>assistant\n"


def _special(tokenizer: Any, name: str, usual: str) -> str:
    token = getattr(tokenizer, name, None) or usual
    if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
        raise ValueError(f"its tokenizer has no {token}")
    return str(token)
