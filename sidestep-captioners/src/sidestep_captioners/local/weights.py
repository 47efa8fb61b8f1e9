"""Where a model's files are: a folder that was named, sidestep's own, the hub's cache; the hub only when allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from sidestep_core.errors import CheckpointError, ProviderError

from sidestep_captioners.places import HUB, hub_folder, own_folder

# everything but weights in other formats: spk_dict.pt belongs to the voice, which is not loaded
_FETCHED = ["*.json", "*.jinja", "*.txt", "*.safetensors"]
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_TOKENS, _SOUND = ("tokenizer.json", "vocab.json"), ("preprocessor_config.json", "processor_config.json")


@attrs.frozen
class KnownModel:
    """A model that is known by a short name: its name on the hub, and the size of its files."""

    hub: str
    gigabytes: float


KNOWN: Mapping[str, KnownModel] = {
    "acestep-captioner": KnownModel("ACE-Step/acestep-captioner", 22.4),
    "acestep-transcriber": KnownModel("ACE-Step/acestep-transcriber", 22.4),
    "qwen2.5-omni-7b": KnownModel("Qwen/Qwen2.5-Omni-7B", 22.4),
    "music-flamingo": KnownModel("nvidia/music-flamingo-2601-hf", 16.5),
}


@attrs.frozen(kw_only=True)
class Located:
    """A model whose files are all there: its name, without folders, and its folder."""

    name: str
    folder: Path


def locate(model: str, weights: Path | None, *, download: bool = False) -> Located:
    """Return where a model is.

    Args:
        model: a name in `KNOWN`, a folder, or a name on the hub.
        weights: the folder of its files, or one that has a folder of its name.
        download: fetch what is not there.

    Raises:
        ProviderError: files are missing; the message names them and where they belong.
    """
    name = Path(model).name
    folder = next((place for place in _places(model, weights) if (place / "config.json").is_file()), None)
    if folder is None:
        folder = _from_hub(_hub_name(model), download=download)
    if folder is None:
        raise ProviderError(_what_to_do(name, _hub_name(model), weights), kind="not found")
    if missing := _missing(folder):
        raise ProviderError(f"'{folder}' lacks {', '.join(missing)} of {name}", kind="not found")
    return Located(name=name, folder=folder)


def _places(model: str, weights: Path | None) -> Iterator[Path]:
    name = Path(model).name
    if weights is not None:
        yield from (weights, weights / name)
    if model not in KNOWN:
        yield Path(model)
    yield own_folder(name)


def _hub_name(model: str) -> str:
    if model in KNOWN:
        return KNOWN[model].hub
    return model if model.count("/") == 1 and not model.startswith((".", "/", "~")) else ""


def _from_hub(hub: str, *, download: bool) -> Path | None:
    try:
        return hub_folder(hub, _FETCHED, download=download) if hub else None
    except CheckpointError as error:
        raise ProviderError(str(error), kind="unreachable") from error


def _missing(folder: Path) -> list[str]:
    """Return what a folder lacks of a model that can listen."""
    there = {path.name for path in folder.iterdir()}
    missing = [" or ".join(names) for names in (_TOKENS, _SOUND) if there.isdisjoint(names)]
    return [*sorted(_weight_files(folder) - there), *missing]


def _weight_files(folder: Path) -> set[str]:
    index = folder / _INDEX
    if not index.is_file():
        return {_SINGLE}
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise ProviderError(f"'{index}' is damaged: {error}", kind="not found") from error


def _what_to_do(name: str, hub: str, weights: Path | None) -> str:
    if not hub:
        return f"no model in '{weights or name}': its folder must hold config.json, the tokenizer and *.safetensors"
    place = weights or own_folder(name)
    return (
        f"no weights of {name}: put the files of {HUB}{hub} (config.json, tokenizer, preprocessor_config.json, "
        f"*.safetensors) into '{place}', or say --allow-download{_size(name)}"
    )


def _size(name: str) -> str:
    return f" (about {KNOWN[name].gigabytes:.0f} GB)" if name in KNOWN else ""
