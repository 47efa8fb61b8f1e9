"""The order of the data: which crops of which songs make which step, as a function of seed and step, without state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from sidestep_core.training.seeds import seed_of, uniform
from sidestep_core.training.sets import TrainSong

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
# songs of nearly the same length may share a batch in one epoch and not in the next; costs as much padding
LENGTH_JITTER = 0.02


@attrs.frozen
class Crop:
    """A stretch of one song.

    Attributes:
        song: index of the song.
        start: first frame.
        length: frames.
        draw: seed of what is drawn for this visit.
        weight: of the sample in the loss.
        dropped: trained with the empty condition.
    """

    song: int
    start: int
    length: int
    draw: int
    weight: float = 1.0
    dropped: bool = False


@attrs.frozen
class BatchPlan:
    """What one forward pass is made of.

    Attributes:
        step: optimizer step, from 0.
        micro: place in the accumulation, from 0.
        crops: the samples.
        step_frames: real frames of the whole step, over which its loss is the mean.
    """

    step: int
    micro: int
    crops: tuple[Crop, ...]
    step_frames: int


@attrs.frozen(kw_only=True)
class Order:
    """The batches of every step.

    Attributes:
        songs: what is trained on.
        seed: seed of the run.
        batch_size: crops in a batch; the last batch of an epoch may be smaller.
        accumulation: batches in a step; the last step of an epoch may have fewer.
        window: longest crop in frames, None for whole songs.
        dropout: share of samples with the empty condition.
    """

    songs: Sequence[TrainSong]
    seed: int
    batch_size: int
    accumulation: int
    window: int | None = None
    dropout: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        visits = sum(song.visits for song in self.songs)
        return math.ceil(math.ceil(visits / self.batch_size) / self.accumulation)

    @property
    def padding(self) -> float:
        """Share of the frames of the first epoch's batches that are padding."""
        lengths = [[crop.length for crop in batch] for batch in self.epoch(0)]
        return 1 - sum(map(sum, lengths)) / sum(len(batch) * max(batch) for batch in lengths)

    def plans(self, first: int, last: int) -> Iterator[BatchPlan]:
        """Yield the batches of the steps from `first` up to, not including, `last`."""
        per_epoch = self.steps_per_epoch
        for epoch in range(first // per_epoch, math.ceil(last / per_epoch)):
            batches = self.epoch(epoch)
            for step in range(max(first, epoch * per_epoch), min(last, (epoch + 1) * per_epoch)):
                begin = (step - epoch * per_epoch) * self.accumulation
                yield from self._step(step, batches[begin : begin + self.accumulation])

    def epoch(self, epoch: int) -> list[tuple[Crop, ...]]:
        """Return the batches of an epoch: lengths alike within one, in an order of its own each time."""
        crops = [
            self._crop(index, epoch, visit) for index, song in enumerate(self.songs) for visit in range(song.visits)
        ]
        crops.sort(key=lambda crop: uniform(self.seed, "order", crop.draw))
        if self.batch_size == 1:
            return [(crop,) for crop in crops]
        crops.sort(key=lambda crop: crop.length * (1 - LENGTH_JITTER * uniform(self.seed, "length", crop.draw)))
        batches = [tuple(crops[i : i + self.batch_size]) for i in range(0, len(crops), self.batch_size)]
        return sorted(batches, key=lambda batch: uniform(self.seed, "batch", batch[0].draw))

    def _crop(self, index: int, epoch: int, visit: int) -> Crop:
        song = self.songs[index]
        start, length = stretch(song, self.seed, epoch * song.visits + visit, self.window)
        return Crop(index, start, length, seed_of(self.seed, "visit", epoch, song.name, visit), song.weight)

    def _step(self, step: int, batches: list[tuple[Crop, ...]]) -> Iterator[BatchPlan]:
        frames = sum(crop.length for batch in batches for crop in batch)
        for micro, batch in enumerate(batches):
            crops = tuple(
                attrs.evolve(crop, dropped=uniform(self.seed, "condition", step, micro, i) < self.dropout)
                for i, crop in enumerate(batch)
            )
            yield BatchPlan(step, micro, crops, frames)


def stretch(song: TrainSong, seed: int, count: int, window: int | None) -> tuple[int, int]:
    """Return first frame and length of a song's stretch at its visit number `count`: all of it without a window."""
    length = min(song.frames, window or song.frames)
    # multiples of the golden ratio fill the song evenly however many visits there are
    place = (uniform(seed, "crop", song.name) + count * GOLDEN_RATIO) % 1.0
    return int(place * (song.frames - length + 1)), length
