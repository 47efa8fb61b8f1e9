"""The state of a run: where it stands, how it is saved, how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.errors import ResumeError
from sidestep_core.events import CheckpointSaved
from sidestep_core.files import atomic_folder
from sidestep_core.plan import TrainPlan
from sidestep_core.runs import BEST, FINAL
from sidestep_core.training.averaging import final_weights
from sidestep_core.training.checkpoints import Checkpoint, prune, save_checkpoint
from sidestep_core.training.fingerprint import changed_settings, differences
from sidestep_core.training.kept import Kept
from sidestep_core.training.record import adapter_metadata
from sidestep_core.training.step import Trainer
from sidestep_core.training.tracker import LossTracker


@attrs.define(kw_only=True)
class RunState:
    """All that changes while a run goes on. What is random is a function of the step, so no generator is part of it.

    Attributes:
        plan: the run.
        trainer: holds adapter, average, optimizer, controllers, sampler and scaler.
        fingerprint: what a run that goes on from here must share.
        step: optimizer steps done.
        saved: step of the newest checkpoint, None before the first.
        losses: means of the loss.
        kept: adapters that were kept on the way.
    """

    plan: TrainPlan
    trainer: Trainer
    fingerprint: dict[str, Any]
    step: int = 0
    saved: int | None = None
    losses: LossTracker = attrs.field(factory=LossTracker)
    kept: Kept = attrs.field(factory=Kept)

    @property
    def epoch(self) -> int:
        """The epoch of the last step, from 1."""
        return max(0, self.step - 1) // self.plan.steps_per_epoch + 1

    def save(self) -> CheckpointSaved:
        """Write a checkpoint, remove those that are too many, and return what is to be told of it."""
        trainer = self.trainer
        scaler = trainer.accelerator.scaler
        checkpoint = Checkpoint(
            step=self.step,
            adapter=trainer.adapter.state_dict(),
            average=trainer.average.state_dict() if trainer.average is not None else None,
            optimizer=trainer.optimizer.state_dict(),
            state={
                "epoch": self.epoch,
                "fingerprint": self.fingerprint,
                "controllers": trainer.schedule.state_dict(),
                "sampler": trainer.sampler.state_dict() if hasattr(trainer.sampler, "state_dict") else None,
                "losses": self.losses.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "kept": self.kept.state_dict(),
            },
            best=best if (best := self.plan.run / BEST).is_dir() else None,
        )
        folder = save_checkpoint(self.plan.run, checkpoint, self.write_adapter)
        self.saved = self.step
        prune(self.plan.run, self.plan.request.run.keep_last)
        return CheckpointSaved(step=self.step, epoch=self.epoch, path=folder)

    def restore(self, checkpoint: Checkpoint) -> list[str]:
        """Go on from a checkpoint; the learning rate follows from the step and is not part of it.

        Returns:
            What could not be taken over because settings changed, a line for each.

        Raises:
            AdapterError: the adapter's weights do not fit.
        """
        trainer, state = self.trainer, checkpoint.state
        tables = {key.partition(".")[0] for key in changed_settings(state["fingerprint"], self.fingerprint)}
        trainer.adapter.load_state_dict(checkpoint.adapter)
        trainer.schedule.load_state_dict(state["controllers"])
        self.losses = LossTracker.from_state(state["losses"])
        self.kept = Kept.from_state(state["kept"])
        self.step = self.saved = checkpoint.step
        if state["scaler"] is not None and trainer.accelerator.scaler is not None:
            trainer.accelerator.scaler.load_state_dict(state["scaler"])
        left = self._restore_average(checkpoint)
        if tables & {"optimizer", "adapter"}:
            left.append("the optimizer starts afresh: what it learned belongs to other settings")
        else:
            trainer.optimizer.load_state_dict(checkpoint.optimizer)
        if hasattr(trainer.sampler, "load_state_dict"):
            if "timesteps" in tables:
                left.append("the timestep sampler starts afresh")
            else:
                trainer.sampler.load_state_dict(state["sampler"])
        return left

    def export(self) -> Path:
        """Write the adapter as other programs load it."""
        folder = self.plan.run / FINAL
        with atomic_folder(folder) as new:
            self.write_adapter(new)
        return folder

    def write_adapter(self, folder: Path) -> None:
        """Write the adapter as it is now, with the weights that the run gives away."""
        trainer = self.trainer
        with final_weights(trainer.parameters, trainer.optimizer, trainer.average):
            trainer.adapter.save(folder, metadata=adapter_metadata(self.plan))

    def _restore_average(self, checkpoint: Checkpoint) -> list[str]:
        average = self.trainer.average
        if average is not None and checkpoint.average is not None:
            average.load_state_dict(checkpoint.average)
        elif average is not None:
            average.restart()
            return [f"the average of the weights begins at step {checkpoint.step}"]
        elif checkpoint.average is not None:
            return ["the average of the weights ends: the run goes on with the weights themselves"]
        return []


def check_resume(plan: TrainPlan, checkpoint: Checkpoint, fingerprint: dict[str, Any]) -> Iterator[str]:
    """Yield what a resumed run has to ignore.

    Raises:
        ResumeError: data, adapter or settings changed, and the settings do not say to ignore it.
    """
    changed = list(differences(checkpoint.state["fingerprint"], fingerprint))
    if changed and plan.request.run.strict_resume:
        listed = "\n".join(f"  {line}" for line in changed)
        raise ResumeError(
            f"'{plan.resume}' does not fit this run:\n{listed}\n"
            "undo the changes, or go on all the same with --no-strict-resume"
        )
    yield from (f"resuming although {line}" for line in changed)
    if checkpoint.step >= plan.total_steps:
        yield f"the run already ended at step {checkpoint.step}; raise --epochs or --max-steps to train on"
