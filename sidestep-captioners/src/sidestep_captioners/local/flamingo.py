"""Descriptions of songs by NVIDIA's Music Flamingo on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from sidestep_core.audio.source import Samples
from sidestep_core.errors import ProviderError
from sidestep_core.specs import BuildContext
from torch import Tensor
from transformers import MusicFlamingoForConditionalGeneration, MusicFlamingoProcessor

from sidestep_captioners.local.captioner import Captioner
from sidestep_captioners.local.configs import FlamingoConfig
from sidestep_captioners.local.hearing import RATE
from sidestep_captioners.local.listener import Listener, Question
from sidestep_captioners.local.loading import Placement, naming_failures, timed
from sidestep_captioners.local.weights import Located

LICENCE = "NVIDIA's OneWay Noncommercial licence: research and other non-commercial use only"


class Flamingo(Listener):
    """A loaded Music Flamingo with its processor."""

    def __init__(self, located: Located, placement: Placement) -> None:
        """Load it; nothing is fetched.

        Raises:
            ProviderError: it does not fit, or the files are not what they should be.
        """
        with timed("loading", located.name), naming_failures(located.name, placement):
            self._processor = MusicFlamingoProcessor.from_pretrained(located.folder, local_files_only=True)
            model = MusicFlamingoForConditionalGeneration.from_pretrained(
                located.folder, local_files_only=True, **placement.arguments()
            )
        super().__init__(located.name, model.eval(), self._processor.tokenizer, placement)

    def prepare(self, audio: Samples, question: Question) -> Mapping[str, Tensor]:
        """Return the model's input for a recording [samples] at 16 kHz and a question about it."""
        parts = [{"type": "text", "text": question.text}, {"type": "audio"}]
        message = [{"role": "user", "content": parts if question.recording_last else parts[::-1]}]
        words = self._processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        made = self._processor(text=[words], audio=[audio], sampling_rate=RATE)
        return {**made, "input_features": made["input_features"].to(self.placement.dtype)}


class FlamingoCaptioner(Captioner):
    """A captioner whose weights are not for every use, which is said before they are loaded."""

    def __init__(self, config: FlamingoConfig, context: BuildContext) -> None:
        super().__init__(config, context, four_bit=config.memory == "8-10gb", load=Flamingo)
        self._accepted = config.accept_license

    def __enter__(self) -> Self:
        """Load the model; raise `ProviderError` where its licence was not accepted."""
        if not self._accepted:
            raise ProviderError(f"Music Flamingo is under {LICENCE}; say --accept-license to use it", kind="refused")
        return super().__enter__()

    def check(self) -> str:
        """Say which model would listen, and under which licence."""
        return f"{super().check()}, under {LICENCE}"
