"""The index of a tensor folder: what opening a set of any size reads, without torch.

Layout: `index.json`, `latents/<key>.safetensors`, `conditioning/<key>.safetensors`. A key is a hash of all that made
the file, so a file is either right or not there. Folders of `.pt` files made by Side-Step or ACE-Step open alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import attrs

from sidestep_core.errors import StoreError
from sidestep_core.files import write_atomic

FORMAT = 1
INDEX = "index.json"
LATENTS = "latents"
CONDITIONING = "conditioning"
# a key becomes part of a path, so nothing but a hash may be one
_KEY = attrs.validators.matches_re(re.compile(r"([0-9a-f]{32})?"))
_COUNT: Any = attrs.validators.and_(
    attrs.validators.instance_of(int), attrs.validators.not_(attrs.validators.instance_of(bool)), attrs.validators.ge(0)
)
_SECONDS: Any = attrs.validators.and_(
    attrs.validators.instance_of((int, float)), attrs.validators.ge(0), attrs.validators.lt(math.inf)
)
_TEXT = attrs.validators.instance_of(str)


@attrs.frozen(kw_only=True)
class Source:
    """An audio file as it was hashed: the hash still holds while size and time of change are the same."""

    size: int = attrs.field(validator=_COUNT)
    mtime_ns: int = attrs.field(validator=attrs.validators.instance_of(int))
    hash: str = attrs.field(validator=_KEY)


@attrs.frozen(kw_only=True)
class StoredSong:
    """One song of a set.

    Attributes:
        name: unique in the set; the audio's path below its root.
        frames: latent frames, 25 a second; 0 in a `.pt` set that was not measured (`legacy.measure`).
        rows: rows of conditioning, none of them padding; 0 like frames.
        seconds: length of the audio the latents were made of.
        repeat: visits in one epoch.
        latents_key: names the latents file; empty in a `.pt` set.
        conditioning_key: names the conditioning file; empty in a `.pt` set.
        prompt: text prompt of the conditioning.
        tag: trigger tag in the prompt.
        cut_lyrics: tokens of the lyrics that did not fit.
        source: path of the audio file.
        file: name of the `.pt` file; empty otherwise.
    """

    name: str = attrs.field(validator=_TEXT)
    frames: int = attrs.field(validator=_COUNT)
    rows: int = attrs.field(validator=_COUNT)
    seconds: float = attrs.field(validator=_SECONDS)
    repeat: int = attrs.field(default=1, validator=_COUNT)
    latents_key: str = attrs.field(default="", validator=_KEY)
    conditioning_key: str = attrs.field(default="", validator=_KEY)
    prompt: str = attrs.field(default="", validator=_TEXT)
    tag: str = attrs.field(default="", validator=_TEXT)
    cut_lyrics: int = attrs.field(default=0, validator=_COUNT)
    source: str = attrs.field(default="", validator=_TEXT)
    file: str = attrs.field(default="", validator=_TEXT)


@attrs.frozen(kw_only=True)
class TensorStore:
    """A tensor folder.

    Attributes:
        path: the folder.
        kind: "safetensors", or "pt" for a set made by Side-Step or ACE-Step.
        model: identity of the checkpoint the conditioning was made with (empty in a `.pt` set, like what follows).
        variant: base, sft, turbo, xl-base ...
        conditioning: "inference" or "side-step".
        latent: "sample", "mean" or "resample".
        dtype: "fp32", "bf16" or "fp16".
        songs: what is finished, in the order of the names.
        sources: audio files by path, so that unchanged ones need not be hashed again.
    """

    path: Path
    kind: Literal["safetensors", "pt"] = "safetensors"
    model: str = attrs.field(default="", validator=_TEXT)
    variant: str = attrs.field(default="", validator=_TEXT)
    conditioning: str = attrs.field(default="", validator=_TEXT)
    latent: str = attrs.field(default="", validator=_TEXT)
    dtype: str = attrs.field(default="", validator=_TEXT)
    songs: tuple[StoredSong, ...] = ()
    sources: Mapping[str, Source] = attrs.field(factory=dict, repr=False)

    def latents_file(self, song: StoredSong) -> Path:
        """Return where the song's latents are."""
        return self.path / song.file if song.file else latents_path(self.path, song.latents_key)

    def conditioning_file(self, song: StoredSong) -> Path:
        """Return where the song's conditioning is."""
        return self.path / song.file if song.file else conditioning_path(self.path, song.conditioning_key)


def latents_path(folder: Path, key: str) -> Path:
    """Return the latents file of a key."""
    return folder / LATENTS / f"{key}.safetensors"


def conditioning_path(folder: Path, key: str) -> Path:
    """Return the conditioning file of a key."""
    return folder / CONDITIONING / f"{key}.safetensors"


def open_store(path: Path) -> TensorStore:
    """Open a tensor folder by its index, or a folder of `.pt` files by their names; no tensor is read.

    Raises:
        StoreError: the folder is missing, holds no finished song, is damaged or of a later format.
    """
    if not path.is_dir():
        raise StoreError(f"no tensor folder at '{path}'; make one with 'sidestep preprocess'")
    store = read_index(path)
    if store is None:
        return _open_pt(path)
    if not store.songs:
        raise StoreError(f"'{path}' holds no finished song yet; run 'sidestep preprocess' again to go on")
    return store


def read_index(path: Path) -> TensorStore | None:
    """Return what `index.json` in a folder says, also when no song is finished; None when there is no such file.

    Raises:
        StoreError: the index is damaged or of a later format.
    """
    file = path / INDEX
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, error) from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise StoreError(f"'{file}' has format {found!r}; this version reads format {FORMAT}")
    try:
        return _structure(path, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(file, error) from error


def write_index(store: TensorStore) -> None:
    """Write `index.json` of a safetensors set, at once or not at all."""
    data = {
        "format": FORMAT,
        "model": store.model,
        "variant": store.variant,
        "conditioning": store.conditioning,
        "latent": store.latent,
        "dtype": store.dtype,
        "songs": [attrs.asdict(song, filter=lambda a, _: a.name != "file") for song in store.songs],
        "sources": {path: attrs.asdict(source) for path, source in store.sources.items()},
    }
    write_atomic(store.path / INDEX, json.dumps(data, ensure_ascii=False, indent=1))


def _structure(path: Path, data: Mapping[str, Any]) -> TensorStore:
    songs = tuple(StoredSong(**row) for row in data["songs"])
    for song in songs:
        # a file name from an index would be a path of its own, and what an index no longer names is deleted
        if song.file or not (song.frames and song.rows and song.latents_key and song.conditioning_key):
            raise ValueError(f"song {song.name!r} is not one of a safetensors set")
    return TensorStore(
        path=path,
        songs=songs,
        sources={name: Source(**row) for name, row in data["sources"].items()},
        **{name: data[name] for name in ("model", "variant", "conditioning", "latent", "dtype")},
    )


def _damaged(file: Path, error: Exception) -> StoreError:
    reason = str(error).partition("\n")[0]
    return StoreError(f"'{file}' is damaged ({reason}); delete it and preprocess again: tensors are kept")


def _open_pt(path: Path) -> TensorStore:
    files = _listed_in_manifest(path) or sorted(file.name for file in path.glob("*.pt"))
    files = [name for name in files if not name.endswith(".tmp.pt")]  # what Side-Step leaves when interrupted
    if not files:
        raise StoreError(
            f"no tensors in '{path}': neither {INDEX} nor a .pt file; make them with 'sidestep preprocess'"
        )
    songs = [StoredSong(name=file.removesuffix(".pt"), frames=0, rows=0, seconds=0.0, file=file) for file in files]
    return TensorStore(path=path, kind="pt", songs=tuple(songs))


def _listed_in_manifest(folder: Path) -> list[str]:
    """Return the files that `manifest.json` lists, relative to the folder; nothing when it cannot be understood."""
    try:
        listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["samples"]
        return [_inside(PurePosixPath(entry.replace("\\", "/"))) for entry in listed]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _inside(path: PurePosixPath) -> str:
    # other paths are those of the machine that wrote them: the files are in this folder all the same
    outside = path.is_absolute() or ":" in path.parts[0] or ".." in path.parts
    return PureWindowsPath(path).name if outside else str(path)
