"""The observer that writes a run's losses, rates and histograms for TensorBoard; everything is counted by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from sidestep_core.builtins.configs import TensorBoardConfig
from sidestep_core.errors import LoadError
from sidestep_core.events import EpochDone, Event, RunStarted, StepsDone, Validated
from sidestep_core.runs import EVENTS
from sidestep_core.specs import BuildContext

# in a folder that several runs share: whose sub-folder it is
OWNER = "run.txt"
FLUSH_SECONDS = 5


class TensorBoard:
    """Writes event files into `runs/` of the run's folder, or into a sub-folder of the one that was chosen."""

    def __init__(self, config: TensorBoardConfig, context: BuildContext) -> None:
        """Take the folders; nothing is written before the run starts."""
        if context.run is None:
            raise LoadError("observer 'tensorboard' needs the folder of a run")
        self._root, self._run = config.log_dir, context.run
        self._writer: SummaryWriter | None = None

    def observe(self, event: Event) -> None:
        """Write what the event tells in numbers."""
        if isinstance(event, RunStarted):
            folder = self._run / EVENTS if self._root is None else _claim(self._root, self._run.resolve())
            # what a resume overtook is hidden by TensorBoard: there are no two values of one step
            self._writer = SummaryWriter(str(folder), purge_step=event.step + 1, flush_secs=FLUSH_SECONDS)
        if self._writer is None:
            return
        for tag, value, step in _scalars(event):
            if math.isfinite(value):
                self._writer.add_scalar(tag, value, step)
        if isinstance(event, StepsDone) and any(event.samples):
            _add_histogram(self._writer, event.samples, event.step)

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._writer is not None:
            self._writer.close()


def _scalars(event: Event) -> Iterator[tuple[str, float, int]]:
    """Yield tag, value and step of everything in an event that is drawn as a line."""
    match event:
        case StepsDone():
            values = {
                "train/loss": event.loss,
                "train/smoothed_loss": event.smoothed,
                "train/lr": event.learning_rate,
                "train/grad_norm": event.grad_norm,
                "train/steps_per_second": event.steps_per_second,
                "train/memory": event.memory,
                **event.extra,
                **_by_band("loss_by_timestep", event.bands),
                **{f"grad_norm/{name}": norm for name, norm in event.gradients.items()},
            }
        case EpochDone():
            values = {"train/epoch_loss": event.loss}
        case Validated():
            values = {"val_loss": event.loss, **_by_band("val_loss_by_timestep", event.bands)}
        case _:
            return
    yield from ((tag, value, event.step) for tag, value in values.items())


def _by_band(tag: str, bands: Sequence[float]) -> dict[str, float]:
    edges = [index / len(bands) for index in range(len(bands))]
    return {f"{tag}/{low:.1f}-{low + 1 / len(bands):.1f}": loss for low, loss in zip(edges, bands, strict=True)}


def _add_histogram(writer: SummaryWriter, samples: Sequence[int], step: int) -> None:
    """Add how many timesteps fell into each of the equal bands from 0 to 1; what is inside a band is not known."""
    bands = len(samples)
    middles = [(index + 0.5) / bands for index in range(bands)]
    writer.add_histogram_raw(
        "train/timestep_distribution",
        min=0.0,
        max=1.0,
        num=sum(samples),
        sum=sum(n * t for n, t in zip(samples, middles, strict=True)),
        sum_squares=sum(n * t * t for n, t in zip(samples, middles, strict=True)),
        bucket_limits=[(index + 1) / bands for index in range(bands)],
        bucket_counts=list(samples),
        global_step=step,
    )


def _claim(root: Path, run: Path) -> Path:
    """Return a run's own folder below one that several share: its name, with a number where another run has that."""
    for number in count(1):
        folder = root / (run.name if number == 1 else f"{run.name}_v{number}")
        if _owner(folder) == str(run):
            return folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        (folder / OWNER).write_text(str(run), encoding="utf-8", errors="surrogateescape")
        return folder
    raise AssertionError("unreachable")


def _owner(folder: Path) -> str | None:
    try:
        return (folder / OWNER).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
