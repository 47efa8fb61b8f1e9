"""Where Demucs' weights are, and loading them without running what a file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml
from demucs.apply import BagOfModels
from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name, load_safetensors_model
from safetensors import SafetensorError, safe_open
from sidestep_core.errors import CheckpointError

from sidestep_captioners.places import HUB, hub_folder, own_folder

_CLASSES = frozenset({"demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs"})


@attrs.frozen(kw_only=True)
class Bag:
    """The files of a model, which may be several whose results are weighed, as its list says."""

    files: Sequence[Path]
    weights: Any = None
    segment: Any = None


def load(model: str, weights: Path | None, *, download: bool) -> BagOfModels:
    """Return a model from safetensors files.

    Args:
        model: what it is called.
        weights: folder of its files, or the one file.
        download: fetch what is not there.

    Raises:
        CheckpointError: files are missing, which the message names with their place, or damaged.
    """
    bag = _locate(model, weights, download=download)
    return BagOfModels([_load_file(path) for path in bag.files], bag.weights, bag.segment).eval()


def _locate(model: str, weights: Path | None, *, download: bool) -> Bag:
    places = [place for place in (weights, own_folder(model)) if place is not None]
    if (bag := next(filter(None, (_in_folder(place, model) for place in places)), None)) is not None:
        return bag
    fetched = hub_folder(_repository(model), (f"{model}.yaml", "*.safetensors"), download=download)
    if fetched is not None and (bag := _in_folder(fetched, model)) is not None:
        return bag
    raise CheckpointError(_what_to_do(model, [f"{model}.yaml", "the .safetensors files that it names"], places[0]))


def _in_folder(place: Path, model: str) -> Bag | None:
    if place.is_file():
        return Bag(files=[place])
    if (place / f"{model}.yaml").is_file():
        return _complete(_read_list(place / f"{model}.yaml"), model)
    single = place / f"{model}.safetensors"
    return Bag(files=[single]) if single.is_file() else None


def _complete(bag: Bag, model: str) -> Bag:
    if missing := [path for path in bag.files if not path.is_file()]:
        raise CheckpointError(_what_to_do(model, [path.name for path in missing], missing[0].parent))
    return bag


def _read_list(path: Path) -> Bag:
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
        files = [path.with_name(f"{name}.safetensors") for name in listed["models"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise CheckpointError(f"'{path}' is no list of models: {_first_line(error)}") from error
    return Bag(files=files, weights=listed.get("weights"), segment=listed.get("segment"))


def _load_file(path: Path) -> Any:
    """Return the model of one file, whose class is one of Demucs' own and whose values are plain."""
    try:
        with safe_open(str(path), framework="pt") as file:
            facts: Mapping[str, str] = file.metadata() or {}
        # the library would import and call whatever the file names
        if facts.get("klass") not in _CLASSES or "structure" in facts:
            raise CheckpointError(f"'{path}' holds no model of Demucs that can be loaded")
        return load_safetensors_model(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' cannot be loaded: {_first_line(error)}") from error


def _repository(model: str) -> str:
    return f"{DEFAULT_NAMESPACE}/{hf_repo_name(model)}"


def _what_to_do(model: str, files: Sequence[str], place: Path) -> str:
    wanted = f"{' and '.join(files)} of {HUB}{_repository(model)}"
    return f"no weights of {model}: put {wanted} into '{place}', or say --allow-download"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
