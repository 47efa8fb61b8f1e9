"""What is in a checkpoint folder: finding models, choosing one by name and telling it from others, without torch."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from sidestep_core.errors import CheckpointError
from sidestep_core.model.folder import VARIANTS, ModelFolder, model_files, read_model

__all__ = ["VARIANTS", "ModelFolder", "Scan", "find_checkpoint_dir", "find_models", "identity", "resolve_model", "scan"]

_OFFICIAL = re.compile(r"acestep-v\d+-")
_NO_MODEL = re.compile(r"vae\Z|Qwen|acestep-5Hz|[._]")
_SAMPLES, _SAMPLE_SIZE = 64, 4096


@attrs.frozen
class Scan:
    """What a checkpoint folder holds.

    Attributes:
        models: usable by name, ACE-Step's own first.
        broken: folder name -> why a model there cannot be used.
    """

    models: tuple[ModelFolder, ...]
    broken: dict[str, str]


def scan(root: Path) -> Scan:
    """Read every model below a checkpoint folder, or the one that the folder itself is.

    Raises:
        CheckpointError: there is no such folder.
    """
    models: list[ModelFolder] = []
    broken: dict[str, str] = {}
    for path, its_root in _candidates(root):
        try:
            found = read_model(path, its_root)
        except CheckpointError as error:
            broken[path.name] = str(error)
        else:
            models += [found] if found else []
    return Scan(tuple(sorted(models, key=_order)), broken)


def find_models(root: Path) -> list[ModelFolder]:
    """Return the models of a checkpoint folder, ACE-Step's own first; those that cannot be read are left out.

    Raises:
        CheckpointError: there is no such folder.
    """
    return list(scan(root).models)


def resolve_model(root: Path, name: str | None) -> ModelFolder:
    """Return the model with an alias (`base`, `xl-turbo`) or a folder name.

    Without a name it is the first that is there of base, sft and turbo, then of their XL forms.

    Raises:
        CheckpointError: there is none, or what is there cannot be used; the message lists the models.
    """
    found = scan(root)
    wanted = VARIANTS if name is None else (name,)
    chosen = next((models for word in wanted if (models := _called(found, word))), [])
    if len(chosen) > 1:
        names = ", ".join(model.name for model in chosen)
        raise CheckpointError(f"{len(chosen)} {chosen[0].variant} models in {str(root)!r}; choose by name: {names}")
    if chosen:
        return chosen[0]
    if name in found.broken:
        raise CheckpointError(found.broken[name])
    raise CheckpointError(_none_found(found, root, name))


def find_checkpoint_dir(given: Path | None, settings_value: Path | None) -> Path:
    """Return the checkpoint folder: the one given, else that of the settings, else `./checkpoints`.

    Raises:
        CheckpointError: the first of these that is set is no folder, or none is set.
    """
    for path, source in ((given, "--checkpoint-dir"), (settings_value, "the settings")):
        if path is not None:
            if not path.is_dir():
                raise CheckpointError(f"no folder {str(path)!r}, which {source} names as the checkpoint folder")
            return path
    default = Path("checkpoints")
    if not default.is_dir():
        raise CheckpointError(
            "no checkpoint folder: give --checkpoint-dir or run 'sidestep settings set checkpoint_dir DIR'"
        )
    return default


def identity(folder: ModelFolder) -> str:
    """Return a hash that stays when a model is moved and differs between models, fine-tuned ones too.

    It covers the config, the size and header of each weight file, and blocks of a few kilobytes spread over them,
    so that it is cheap for any size.
    """
    digest = hashlib.blake2b(digest_size=16)
    configs = [folder.path / "config.json"]
    if folder.layout == "diffusers":
        configs = [folder.path / part / "config.json" for part in ("transformer", "condition_encoder")]
    for config in configs:
        digest.update(json.dumps(json.loads(config.read_bytes()), sort_keys=True).encode())
    files = [file for file in model_files(folder.path, folder.layout) if file.is_file()]
    for file in [*files, *([folder.silence] if folder.silence else [])]:
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _candidates(root: Path) -> list[tuple[Path, Path]]:
    """Return (folder, its root) of everything that may be a model, the given folder first."""
    if not root.is_dir():
        raise CheckpointError(f"no checkpoint folder {str(root)!r}")
    try:
        children = sorted(child for child in root.iterdir() if child.is_dir() and not _NO_MODEL.match(child.name))
    except OSError as error:
        raise CheckpointError(f"checkpoint folder {str(root)!r} cannot be read: {error.strerror}") from error
    return [(root, root.absolute().parent), *((child, root) for child in children)]


def _order(model: ModelFolder) -> tuple[bool, int, str]:
    official = bool(_OFFICIAL.match(model.name))
    rank = VARIANTS.index(model.variant) if model.variant else len(VARIANTS)
    return not official, rank if official else 0, model.name


def _called(found: Scan, name: str) -> list[ModelFolder]:
    """Return what a name means: ACE-Step's own model, else the folder of that name, else all of that variant."""
    of_variant = [model for model in found.models if name and model.variant == name]
    official = [model for model in of_variant if _OFFICIAL.match(model.name)]
    return official or [model for model in found.models if model.name == name] or of_variant


def _none_found(found: Scan, root: Path, name: str | None) -> str:
    there = [model.name for model in found.models]
    unusable = "; ".join(f"{folder} cannot be used: {reason}" for folder, reason in found.broken.items())
    if not there:
        return f"no ACE-Step model in {str(root)!r}" + (f"; {unusable}" if unusable else "")
    if name is None:
        return f"no base, sft or turbo model in {str(root)!r}; choose with --model: {', '.join(there)}"
    near = difflib.get_close_matches(name, [*there, *VARIANTS], n=1)
    hint = f"; did you mean {near[0]!r}" if near else ""
    return f"no model {name!r} in {str(root)!r}; there is {', '.join(there)}{hint}"


def _blocks(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        yield stream.read(_SAMPLE_SIZE)  # the header begins here
        for i in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE_SIZE) * (i + 1) // _SAMPLES)
            yield stream.read(_SAMPLE_SIZE)
