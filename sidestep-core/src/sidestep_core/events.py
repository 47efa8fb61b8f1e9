"""What preprocessing, analysis and training report: typed events, yielded by the functions that do the work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from sidestep_core.analysis.result import Analysis
from sidestep_core.interfaces import Measured


@attrs.frozen(kw_only=True)
class Event:
    """Base of every event."""


@attrs.frozen(kw_only=True)
class Notice(Event):
    """A line the user should see; `warning` marks what may be wrong."""

    message: str
    warning: bool = False


# Preprocessing


@attrs.frozen(kw_only=True)
class StageStarted(Event):
    """A stage of preprocessing or of an analysis begins: `total` songs or weights have to go through it."""

    stage: str
    total: int


@attrs.frozen(kw_only=True)
class SongFinished(Event):
    """One song is through a stage; `audio_seconds` is its length."""

    stage: str
    name: str
    audio_seconds: float = 0.0


@attrs.frozen(kw_only=True)
class SongRejected(Event):
    """One song cannot be used; the others go on."""

    name: str
    reason: str


@attrs.frozen(kw_only=True)
class PreprocessFinished(Event):
    """Preprocessing is over.

    Attributes:
        written: songs whose tensors were made or renewed.
        kept: songs that were up to date.
        rejected: songs left out, with reasons.
        seconds: audio in the finished set.
        cut_lyrics: songs whose lyrics were longer than the model takes.
        output: the tensor folder.
    """

    written: int
    kept: int
    rejected: tuple[SongRejected, ...]
    seconds: float
    cut_lyrics: int
    output: Path


# Separation: stages and songs are told by `StageStarted`, `SongFinished` and `SongRejected`


@attrs.frozen(kw_only=True)
class StemsFinished(Event):
    """Taking songs apart is over.

    Attributes:
        written: songs whose stems were written.
        complete: songs whose stems were there before.
        rejected: songs that could not be taken apart, with reasons.
        output: folder of the stems.
    """

    written: int
    complete: int
    rejected: tuple[SongRejected, ...]
    output: Path


# Analysis: stages and songs are told by `StageStarted`, `SongFinished` and `SongRejected`


@attrs.frozen(kw_only=True)
class WeightMeasured(Event):
    """The effective rank of one projection's weight is known."""

    stage: str
    name: str
    effective_rank: int


@attrs.frozen(kw_only=True)
class AnalysisFinished(Event):
    """Scores and ranks of all projections are known; nothing is written yet."""

    analysis: Analysis


@attrs.frozen(kw_only=True)
class RankMapSaved(Event):
    """The rank map was written, and pictures of it if they were asked for."""

    path: Path
    pictures: tuple[Path, ...] = ()


# Measuring


@attrs.frozen(kw_only=True)
class SongMeasured(Event):
    """One song was measured.

    Attributes:
        name: its path below the folder.
        found: each field that was measured, written or not.
        written: fields that went into the sidecar, or would go in a dry run.
        doubtful: wanted fields without a value that is certain enough.
    """

    name: str
    found: Mapping[str, Measured] = attrs.field(hash=False)
    written: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class MeasureFinished(Event):
    """Measuring is over.

    Attributes:
        written: songs whose sidecars were written, or would be in a dry run.
        complete: songs whose sidecars said everything before.
        doubtful: songs of which something wanted is not certain enough.
        rejected: songs that could not be measured, with reasons.
        dry_run: whether nothing was to be written.
    """

    written: int
    complete: int
    doubtful: int
    rejected: tuple[SongRejected, ...]
    dry_run: bool = False


# Describing


@attrs.frozen(kw_only=True)
class DescribeStarted(Event):
    """A provider's turn begins: it is asked about `total` songs of a folder."""

    provider: str
    total: int


@attrs.frozen(kw_only=True)
class SongDescribed(Event):
    """A provider is done with one song.

    Attributes:
        name: the song.
        provider: what was asked.
        fields: what was written into the sidecar; empty if nothing was found.
        doubts: what a person should look at, one line each.
        problem: why the provider could not describe it, "" if it could.
        seconds: how long it took.
    """

    name: str
    provider: str
    fields: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    problem: str = ""
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class DescribeFinished(Event):
    """Describing is over; each song counts once.

    Attributes:
        written: songs whose sidecars have new values now.
        complete: songs that needed nothing.
        unchanged: songs about which nothing was found.
        failed: songs with which a provider had a problem, whatever another one wrote.
        left: songs that were not asked about since it ended before.
        songs: what became of every song that was asked about, in order; one for each provider.
        ended: why it ended before the last song, "" if it did not.
    """

    written: int
    complete: int
    unchanged: int
    failed: int
    left: int
    songs: tuple[SongDescribed, ...]
    ended: str = ""


# Training


@attrs.frozen(kw_only=True)
class MemoryPlanned(Event):
    """What a run is expected to take, in bytes, before anything is loaded.

    Attributes:
        device: where it runs.
        weights: the frozen model.
        adapter: trained weights, gradients and the optimizer's state.
        activations: what a pass adds at its peak.
        overhead: runtime, kernels, and what the allocator cannot use.
        free: what can be allocated on the device.
        recomputed: layers computed again in the backward pass.
        layers: of how many.
    """

    device: str
    weights: int
    adapter: int
    activations: int
    overhead: int
    free: int
    recomputed: int
    layers: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.adapter + self.activations + self.overhead


@attrs.frozen(kw_only=True)
class RunStarted(Event):
    """Training begins (or goes on, from `step` > 0); `processes` share each step."""

    run: Path
    step: int
    total_steps: int
    epochs: int
    steps_per_epoch: int
    songs: int
    trainable: int
    processes: int = 1


@attrs.frozen(kw_only=True)
class StepsDone(Event):
    """Progress, every `log_every` steps.

    Attributes:
        step: optimizer steps done so far.
        epoch: the epoch this step belongs to, from 1.
        loss: mean loss of the steps since the last event, every sample with the weight 1.
        smoothed: exponential mean of the loss (0.98 a step, bias-corrected).
        learning_rate: rate of the last step.
        grad_norm: gradient norm of the last step before clipping.
        steps_per_second: over the steps since the last event.
        memory: peak bytes on the device, or of the process on CPU.
        extra: further values by name: what controllers report, and `weighted_loss` where samples have weights.
        bands: mean loss by timestep since the last event: of ten equal bands of t from 0 to 1, NaN for those that no
            sample fell into.
        samples: how many samples fell into each band since the last event.
        gradients: norm of each trained tensor's gradient in the last step, after clipping; only now and then, and only
            if an observer asked for it.
    """

    step: int
    total_steps: int
    epoch: int
    epochs: int
    loss: float
    smoothed: float
    learning_rate: float
    grad_norm: float
    steps_per_second: float
    memory: int
    extra: Mapping[str, float] = attrs.field(factory=dict, hash=False)
    bands: tuple[float, ...] = ()
    samples: tuple[int, ...] = ()
    gradients: Mapping[str, float] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class EpochDone(Event):
    """An epoch is over; `loss` is the mean over its steps."""

    epoch: int
    epochs: int
    step: int
    loss: float
    seconds: float


@attrs.frozen(kw_only=True)
class StepSkipped(Event):
    """A step had non-finite gradients and changed nothing; `songs` are those it was made of."""

    step: int
    songs: tuple[str, ...]


@attrs.frozen(kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint that can be resumed was written."""

    step: int
    epoch: int
    path: Path


@attrs.frozen(kw_only=True)
class Validated(Event):
    """The held-out songs were tried: the same noise and timesteps each time.

    Attributes:
        step: optimizer steps done so far.
        epoch: the epoch of the last step, from 1.
        loss: mean over all real frames.
        bands: mean loss of each of ten equal bands of t, NaN for those that were not tried.
        seconds: how long it took.
    """

    step: int
    epoch: int
    loss: float
    bands: tuple[float, ...]
    seconds: float


@attrs.frozen(kw_only=True)
class BestSaved(Event):
    """The adapter is the best so far and was kept; `loss` is the value it was judged by, `tracked` what that is.

    `tracked` is validation, or smoothed where no song is held out.
    """

    step: int
    epoch: int
    loss: float
    tracked: str
    path: Path


@attrs.frozen(kw_only=True)
class MilestoneSaved(Event):
    """The loss went below a chosen value for the first time, and the adapter was kept."""

    step: int
    epoch: int
    milestone: float
    loss: float
    path: Path


@attrs.frozen(kw_only=True)
class PreviewMade(Event):
    """Audio was generated with the adapter as it is; `paths` are the audio files, step and epoch 0 outside a run."""

    step: int
    epoch: int
    paths: tuple[Path, ...]
    seconds: float


@attrs.frozen(kw_only=True)
class RunFinished(Event):
    """Training is over; `reason` is complete, max-steps, early-stop, stopped or failed."""

    step: int
    reason: str
    loss: float
    adapter: Path | None
    seconds: float


@attrs.frozen(kw_only=True)
class DemoFinished(Event):
    """The demonstration went all the way.

    Attributes:
        output: folder that holds everything.
        report: page with the loss curve and players.
        adapter: folder of the trained adapter.
        exports: name of each target and what was written for it.
        first_loss: mean loss of the first tenth of the steps.
        last_loss: mean loss of the last tenth.
    """

    output: Path
    report: Path
    adapter: Path
    exports: tuple[tuple[str, Path], ...]
    first_loss: float
    last_loss: float
