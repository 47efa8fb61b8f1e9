"""Audio of a run while it trains. It changes nothing of the run, and nothing that goes wrong with it ends the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.events import Event, Notice, PreviewMade
from sidestep_core.generation.audio_files import is_audio_of, write_audio
from sidestep_core.generation.decoding import decode
from sidestep_core.generation.samplers import choose_sampler
from sidestep_core.generation.sampling import draw_noise, sample
from sidestep_core.plan import TrainPlan
from sidestep_core.runs import PREVIEWS
from sidestep_core.training.averaging import final_weights
from sidestep_core.training.modes import evaluating
from sidestep_core.training.pieces import Piece
from sidestep_core.training.state import RunState

# failures in a row that are told; more would only bury everything else
TOLD = 3
OFF = "without_adapter"
logger = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class _Take:
    """A file to write: where, what it is, and the latents it is decoded from."""

    path: Path
    facts: Mapping[str, Any]
    latents: Tensor


class Previews:
    """Makes the previews of a run when they are due and when they are asked for.

    `previews/step_N/` has a FLAC and a JSON file for each piece, with the weights that the run would give away;
    `previews/without_adapter/` has the same without the adapter, made once. All start from the same noise.

    Args:
        plan: the run.
        state: where it stands, and the model with the adapter on it.
        pieces: what is generated, by the name of its files.
    """

    def __init__(self, plan: TrainPlan, state: RunState, pieces: Mapping[str, Piece]) -> None:
        self._plan, self._state, self._pieces = plan, state, pieces
        self._config = plan.request.preview
        self._sampler = choose_sampler(self._config, plan.model)
        self._noise = draw_noise(self._config.seconds, self._config.seed)
        self._failures = 0

    def after_step(self, *, asked: bool) -> Iterator[Event]:
        """Make a preview if one is due after the step that was done, or asked for; yield what came of it."""
        if (asked or self._is_due()) and (event := self._attempt(asked)) is not None:
            yield event

    def _is_due(self) -> bool:
        config, step, per_epoch = self._config, self._state.step, self._plan.steps_per_epoch
        spaces = [space for space in (config.every * per_epoch, config.every_steps) if space]
        return bool(spaces) and (step == self._plan.total_steps or any(step % space == 0 for space in spaces))

    def _attempt(self, asked: bool) -> Event | None:
        try:
            made = self._make()
        except Exception as error:  # memory, disk, a damaged file: none of it is worth a run
            logger.info("the preview failed", exc_info=True)
            self._failures += 1
            return self._failed(error) if asked or self._failures <= TOLD else None
        self._failures = 0
        return made

    def _failed(self, error: Exception) -> Notice:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        message = f"no preview of step {self._state.step:,}: {reason}; training goes on"
        if self._failures == TOLD:
            message += f". That was number {TOLD} in a row: more of them are tried, but not told"
        return Notice(message=message, warning=True)

    def _make(self) -> PreviewMade:
        began, trainer = time.monotonic(), self._state.trainer
        with evaluating(trainer.decoder):
            takes = [*self._without_adapter(), *self._with_adapter()]
        sounds = decode(self._plan.model, [take.latents for take in takes], trainer.accelerator.device)
        for take, sound in zip(takes, sounds, strict=True):
            write_audio(take.path, sound[: round(self._config.seconds * SAMPLE_RATE)], take.facts)
        return PreviewMade(
            step=self._state.step,
            epoch=self._state.epoch,
            paths=tuple(take.path for take in takes),
            seconds=time.monotonic() - began,
        )

    def _without_adapter(self) -> list[_Take]:
        """Return those that are wanted and not there yet, or there with other settings."""
        if not self._config.compare:
            return []
        paths = {self._plan.run / PREVIEWS / OFF / f"{name}.flac": piece for name, piece in self._pieces.items()}
        facts = {path: self._facts(piece, adapter=False) for path, piece in paths.items()}
        missing = [path for path in paths if not is_audio_of(path, facts[path])]
        if not missing:
            return []
        with self._state.trainer.adapter.disabled():
            return [_Take(path, facts[path], self._sample(paths[path])) for path in missing]

    def _with_adapter(self) -> list[_Take]:
        step, trainer = self._state.step, self._state.trainer
        folder = self._plan.run / PREVIEWS / f"step_{step}"
        here = {"run": self._plan.name, "step": step, "epoch": self._state.epoch}
        with final_weights(trainer.parameters, trainer.optimizer, trainer.average):
            return [
                _Take(folder / f"{name}.flac", {**self._facts(piece, adapter=True), **here}, self._sample(piece))
                for name, piece in self._pieces.items()
            ]

    def _sample(self, piece: Piece) -> Tensor:
        return sample(self._state.trainer.decoder, piece.conditioning(), self._noise, self._sampler)

    def _facts(self, piece: Piece, *, adapter: bool) -> dict[str, Any]:
        """Return all that decides what is heard, except the weights of the adapter."""
        return {
            **piece.facts(),
            "adapter": adapter,
            "seconds": self._config.seconds,
            "seed": self._config.seed,
            **attrs.asdict(self._sampler),
            "model": self._plan.model.name,
            "model_identity": self._plan.identity,
            "precision": str(self._state.trainer.dtype).removeprefix("torch."),
        }
