"""What the factories named by specs must build. Protocols only: nothing needs to inherit from these.

Each target is called as `factory(config, context)` with its own config and a `specs.BuildContext`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from sidestep_core.events import Event
    from sidestep_core.targets import Target

Confidence = Literal["high", "medium", "low"]


class Adapter(Protocol):
    """A small trained update of the frozen decoder.

    Tensors are keyed by original ACE-Step names (`layers.0.self_attn.q_proj...`), whatever live modules are called.
    """

    def attach(self, decoder: nn.Module, targets: Sequence[Target]) -> None:
        """Put trainable float32 modules on exactly the targets, in place, and freeze everything else."""

    def parameters(self) -> Sequence[tuple[str, nn.Parameter]]:
        """Return the trainable parameters with their names, always in the same order."""

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return optimizer parameter groups; each has `params` and `lr`."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the exact training state of the weights (unscaled, float32)."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave; raise `AdapterError` naming keys that do not fit."""

    def save(self, folder: Path, *, metadata: Mapping[str, str]) -> list[Path]:
        """Write the adapter files that other programs load, in the original names; return what was written.

        The folder may be there already, with other files in it, or not.
        """

    def deltas(self) -> Iterator[tuple[str, Tensor]]:
        """Yield `(module name, [out, in] float32 weight difference)` of every adapted projection."""

    def disabled(self) -> AbstractContextManager[None]:
        """Let the decoder give, to the bit, what it gave before `attach`; afterwards everything is as it was."""


class TimestepSampler(Protocol):
    """Draws training timesteps; t = 1 is pure noise."""

    def sample(self, batch_size: int, *, generator: torch.Generator) -> Tensor:
        """Return float32 timesteps [batch_size] in (0, 1]."""


class AdaptiveTimestepSampler(TimestepSampler, Protocol):
    """A sampler that follows the loss; its state is part of every checkpoint."""

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Take note of the timesteps and mean losses of a step's samples, both float32 [samples] on the CPU."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""


@attrs.frozen(kw_only=True)
class Progress:
    """Where a schedule is, counted from the end of the warm-up.

    Attributes:
        step: optimizer steps since the warm-up ended (0 during it).
        total_steps: optimizer steps from the end of the warm-up to the end of the run.
        steps_per_epoch: optimizer steps of one epoch.
        learning_rate: peak rate.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    learning_rate: float


class LRController(Protocol):
    """Gives a factor on the peak learning rate; the factors of all chosen controllers multiply."""

    def scale(self, progress: Progress) -> float:
        """Return the factor: a pure function of progress and the controller's own state."""


class StatefulLRController(LRController, Protocol):
    """A controller that follows the loss; its state is part of every checkpoint."""

    def observe(self, loss: float, step: int) -> None:
        """Take note of the loss of a step that counted, not weighted; steps count from 0."""

    def report(self) -> Mapping[str, float]:
        """Return values for the progress file and displays, by names such as `target_loss_scale`."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""


class OptimizerFactory(Protocol):
    """Makes the optimizer of a run.

    A factory may have `notices`, lines that the user should see once the optimizer was made.
    """

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return an optimizer over parameter groups that carry `params` and `lr`.

        One that has the methods `train` and `eval`, as schedule-free ones do, is in training mode while it steps; the
        adapter is saved in the other mode, and the run goes on with exactly the weights it had.
        """


@attrs.frozen(kw_only=True)
class Track:
    """A song as providers get it.

    Attributes:
        path: the audio file.
        title: from its tags or its name, without control characters.
        artist: the same; empty when not known.
        duration: seconds.
        known: sidecar fields that are known already, not empty ones only.
    """

    path: Path
    title: str
    artist: str = ""
    duration: float = 0.0
    known: Mapping[str, str] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class Description:
    """What a provider found out about one song.

    Attributes:
        fields: wanted sidecar fields as the source gave them; normalising makes them what sidecars hold.
        confidence: of fields that the source itself is sure or unsure of.
        doubts: what a person should know, one line each: what was reduced to fit in memory, cut or guessed.
        source: what answered, such as a model's name.
    """

    fields: Mapping[str, str] = attrs.field(hash=False)
    confidence: Mapping[str, Confidence] = attrs.field(factory=dict, hash=False)
    doubts: tuple[str, ...] = ()
    source: str = ""


class Provider(Protocol):
    """Fills sidecar fields of songs; a context manager that holds a model or a connection.

    Its target is called with (config, context). One that is not offline is called from several threads at once.
    """

    def __enter__(self) -> Provider:
        """Open what is needed; raise `ProviderError` where nothing will work: no key, no server, no weights."""

    def __exit__(self, *error: object) -> None:
        """Free it."""

    def check(self) -> str:
        """Say in one line what answers; free of charge. Raise `ProviderError` when nothing would.

        It is called on a provider that was not entered.
        """

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Return the wanted fields it could fill, an empty description if there are none.

        It asks once: whoever calls it tries again. One that works long asks `cancelled` in between.

        Raises:
            ProviderError: the song could not be heard, found or described; its `kind` says whether to go on.
            Cancelled: the user asked to stop.
        """


@attrs.frozen(kw_only=True)
class ExportRequest:
    """What an exporter is asked to do.

    Attributes:
        adapter: folder or file of a trained adapter, of any program whose files are known.
        output: file or folder to write; the exporter chooses a name beside the adapter when None.
        model: the base model's folder (`sidestep_core.model.layout.ModelFolder`), or None.
        dtype: "fp32", "bf16", "fp16" or "keep".
        verify: read the result back and compare before it gets its final name.
        prefix: what stands before modules' names in files of a program that is not known.
    """

    adapter: Path
    output: Path | None = None
    model: Any = None
    dtype: str = "keep"
    verify: bool = True
    prefix: str = ""


@attrs.frozen(kw_only=True)
class ExportReport:
    """What an exporter wrote and how far it reads back as trained.

    Attributes:
        paths: files or folders written.
        modules: adapted modules that the host will match.
        error: largest relative difference of any module's weight delta (None without verification).
        reader: what read it back ("peft 0.21.2 on the original names").
        notes: lines a user should know.
        losses: relative error of each module that could only be approximated, in the Frobenius norm.
    """

    paths: tuple[Path, ...]
    modules: int
    error: float | None = None
    reader: str = ""
    notes: tuple[str, ...] = ()
    losses: Mapping[str, float] = attrs.field(factory=dict)


class Exporter(Protocol):
    """Writes an adapter for another program and proves that it reads back as what was trained."""

    def export(self, request: ExportRequest) -> ExportReport:
        """Write it; raise `ExportError` if the target cannot hold it, `ProofError` (and no file) if the proof fails."""


class Observer(Protocol):
    """Follows a run. One that raises is logged once and dropped; it never ends a run."""

    def observe(self, event: Event) -> None:
        """Take note of one event."""

    def close(self) -> None:
        """Finish what was begun; called once, also after a failure."""


@attrs.frozen(kw_only=True)
class Measured:
    """One property of a song as an analyser found it.

    Attributes:
        value: as a sidecar holds it: `120`, `A minor`, `3/4`.
        confidence: "high" if it can be relied on, "medium" if it is more often right than not,
            "low" if it should not be relied on.
        probability: what stands behind the confidence, 0 to 1.
        others: values that it may be instead, the likeliest first.
    """

    value: str
    confidence: Confidence
    probability: float
    others: tuple[str, ...] = ()


class Analyzer(Protocol):
    """Measures properties of audio without a network."""

    def analyze(self, audio: NDArray[np.float32], wanted: frozenset[str]) -> Mapping[str, Measured]:
        """Return the wanted sidecar fields that it can measure; audio is float32 [2, samples] at 48 kHz.

        A field that cannot be measured on this audio is left out. Raise `AudioError` for audio that cannot be analysed.
        """


class Separator(Protocol):
    """Takes songs apart; a context manager that holds a model. Its target is called with (config, context)."""

    @property
    def rate(self) -> int:
        """Samples a second of what it gives; known once it is entered."""

    def __enter__(self) -> Separator:
        """Load the model; raise `CheckpointError` that names the missing files and their place."""

    def __exit__(self, *error: object) -> None:
        """Free it."""

    def separate(self, audio: NDArray[np.float32], cancelled: Callable[[], bool]) -> Mapping[str, NDArray[np.float32]]:
        """Return the stems of audio, float32 [2, samples] at 48 kHz, by name, each [2, samples] at `rate`.

        Raises:
            Cancelled: `cancelled`, asked in between, said so.
        """
