"""What `bench` is asked and what it answers. Light."""

from __future__ import annotations

import attrs

from sidestep_core.events import Event
from sidestep_core.options import config, option


@config
class BenchConfig:
    """What is measured, and how often."""

    seconds: tuple[float, ...] = option(
        default=(60.0,), help="Lengths of audio in seconds; every step is measured at each of them."
    )
    adapter_types: tuple[str, ...] = option(default=(), help="Adapter types to measure; all when not given.")
    reference: str = option(default="lora", help="Adapter type that everything else is compared with.")
    compile: bool = option(default=False, help="Measure a step of the reference with compiled layers, too.")
    rounds: int = option(default=7, at_least=1, help="Rounds that count; in each of them every step is taken once.")
    rows: int = option(
        default=160, at_least=1, advanced=True, help="Rows of conditioning, as captions and lyrics have."
    )
    hidden: int = option(
        default=128, at_least=32, advanced=True, help="Width of the model that is made when none is named."
    )
    layers: int = option(default=4, at_least=2, advanced=True, help="Layers of the model that is made.")
    window: int = option(
        default=128, at_least=1, advanced=True, help="Positions that sliding layers of the model that is made see."
    )

    def __attrs_post_init__(self) -> None:
        if not self.seconds or not all(1 <= length <= 600 for length in self.seconds):
            raise ValueError("seconds must be one or more lengths from 1 to 600")
        if self.hidden % 32:
            raise ValueError(f"hidden must be a multiple of 32, got {self.hidden}")


@attrs.frozen(kw_only=True)
class StepFigure:
    """A training step: forward, backward, optimizer.

    Attributes:
        way: adapter type, or what else was tried.
        seconds: length of the audio.
        adapter: whether it is one of our adapter types.
        time: seconds a step takes, median over the rounds.
        ratio: the same over that of the reference, median of each round's own ratio.
        flops: floating-point operations of a step.
        matmul: operations a second of a large matrix product in the same rounds.
        share: operations a second over those of the matrix product, median of each round's own.
    """

    way: str
    seconds: float
    adapter: bool
    time: float
    ratio: float
    flops: int
    matmul: float
    share: float


@attrs.frozen(kw_only=True)
class LoopFigure:
    """A step in a real run, with its progress file.

    Attributes:
        seconds: length of the audio.
        bare: seconds a step takes that is forward, backward and optimizer alone.
        overhead: how much longer a step of the run takes, as a share of the bare one's.
    """

    seconds: float
    bare: float
    overhead: float


@attrs.frozen(kw_only=True)
class StartFigure:
    """A command that should come back at once.

    Attributes:
        command: as it is typed.
        milliseconds: of processor time, the best of a few.
    """

    command: str
    milliseconds: float


@attrs.frozen(kw_only=True)
class BenchFinished(Event):
    """Everything is measured.

    Attributes:
        model: what it was measured on, in words.
        device: where.
        precision: compute precision.
        clock: what seconds are: of the wall, or of the processor.
        threads: that torch uses on the CPU.
        reference: adapter type of the ratios.
        steps: training steps.
        loops: steps of real runs.
        starts: commands.
    """

    model: str
    device: str
    precision: str
    clock: str
    threads: int
    reference: str
    steps: tuple[StepFigure, ...]
    loops: tuple[LoopFigure, ...]
    starts: tuple[StartFigure, ...]
