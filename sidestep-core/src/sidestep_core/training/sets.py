"""The songs of a run: those of one or several tensor folders, and which of them are held out. Light."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

import attrs

from sidestep_core.configs import DataConfig, PreviewConfig
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.store.index import StoredSong, TensorStore
from sidestep_core.training.seeds import uniform

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class TrainSong:
    """One song of a run.

    Attributes:
        name: unique among all folders of the run.
        store: the folder its tensors are in.
        stored: what that folder says of it.
        visits: how often an epoch trains on it.
        weight: of its samples in the loss.
    """

    name: str
    store: TensorStore
    stored: StoredSong
    visits: int = 1
    weight: float = 1.0

    @property
    def frames(self) -> int:
        """Latent frames."""
        return self.stored.frames

    @property
    def rows(self) -> int:
        """Rows of conditioning."""
        return self.stored.rows

    @property
    def audio(self) -> str:
        """What two songs share that were made of the same audio."""
        return self.stored.latents_key or self.name


def songs_of(stores: Sequence[TensorStore], data: DataConfig) -> tuple[TrainSong, ...]:
    """Return every song that is visited at least once in an epoch.

    Raises:
        ConfigError: there are not as many repeats or weights as folders.
        DatasetError: the folders cannot be trained on together, or one is given twice.
    """
    _refuse_mixed(stores)
    repeats = _for_each(data.dataset_repeats, 1, len(stores), "--dataset-repeats")
    weights = _for_each(data.dataset_weights, 1.0, len(stores), "--dataset-weights")
    return tuple(
        TrainSong(name=prefix + song.name, store=store, stored=song, visits=song.repeat * repeat, weight=weight)
        for store, prefix, repeat, weight in zip(stores, _prefixes(stores), repeats, weights, strict=True)
        for song in store.songs
        if song.repeat
    )


def hold_out(
    songs: Sequence[TrainSong], share: float, seed: int
) -> tuple[tuple[TrainSong, ...], tuple[TrainSong, ...]]:
    """Return the songs to train on and those held out for validation: at least one, if the share is above 0.

    Which ones depends on the seed and on the audio, not on the order. Songs made of the same audio stay together.

    Raises:
        DatasetError: nothing would be left to train on.
    """
    if not share:
        return tuple(songs), ()
    audios = sorted({song.audio for song in songs}, key=lambda audio: uniform(seed, "validation", audio))
    held = set(audios[: max(1, int(len(audios) * share))])
    if len(held) == len(audios):
        raise DatasetError("--val-split needs at least two songs: one to train on, one to hold out")
    return tuple(song for song in songs if song.audio not in held), tuple(song for song in songs if song.audio in held)


def previewed_songs(preview: PreviewConfig, songs: Sequence[TrainSong]) -> tuple[TrainSong, ...]:
    """Return the songs that previews are made with: those named, or the first if nothing else is to be heard.

    Args:
        preview: what is asked for.
        songs: all there are, the preferred ones first.

    Raises:
        ConfigError: there is no song of a name.
    """
    by_name = {song.name: song for song in songs}
    for name in preview.songs:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"--preview-songs: no song {name!r} among the {len(songs)} of this run{hint}")
    if preview.songs or preview.prompt:
        return tuple(by_name[name] for name in dict.fromkeys(preview.songs))
    return (songs[0],)


def _for_each(given: tuple[T, ...], default: T, count: int, flag: str) -> tuple[T, ...]:
    if len(given) == count:
        return given
    if len(given) > 1:
        raise ConfigError(f"{flag} has {len(given)} values for {count} folders; give one for all or one for each")
    return (given or (default,)) * count


def _refuse_mixed(stores: Sequence[TensorStore]) -> None:
    first = stores[0]
    for store in stores[1:]:
        for what, ours, theirs in (
            ("conditioning", first.conditioning, store.conditioning),
            ("the model it was made with", f"{first.variant} {first.model[:8]}", f"{store.variant} {store.model[:8]}"),
        ):
            if ours != theirs:
                raise DatasetError(
                    f"'{first.path}' and '{store.path}' cannot be trained on together: {what} is "
                    f"{ours.strip() or 'not known'!r} and {theirs.strip() or 'not known'!r}; preprocess both alike"
                )
    paths = [store.path.resolve() for store in stores]
    if twice := [store.path for store, path in zip(stores, paths, strict=True) if paths.count(path) > 1]:
        raise DatasetError(f"'{twice[0]}' is given twice; visit its songs more often with --dataset-repeats")


def _prefixes(stores: Sequence[TensorStore]) -> Iterator[str]:
    """Yield what is put in front of each folder's song names: nothing for one, else a name of the folder's own."""
    seen: Counter[str] = Counter()
    for store in stores:
        name = store.path.resolve().name
        seen[name] += 1
        number = f" ({seen[name]})" if seen[name] > 1 else ""
        yield f"{name}{number}/" if len(stores) > 1 else ""
