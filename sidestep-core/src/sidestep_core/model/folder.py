"""One model on disk: its layout, variant, dimensions and what it lacks, read without torch."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from sidestep_core.errors import CheckpointError
from sidestep_core.model.dims import ModelDims
from sidestep_core.model.headers import TensorInfo, read_header, weight_files
from sidestep_core.model.names import PREFIXES, to_diffusers

TEXT_ENCODER = "Qwen3-Embedding-0.6B"
SILENCE = "silence_latent.pt"
SILENCE_KEY = "silence_latent"  # the same among the condition encoder's tensors in the diffusers layout
_KINDS = ("base", "sft", "turbo")
_DTYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}

VARIANTS = (*_KINDS, *(f"xl-{kind}" for kind in _KINDS))


@attrs.frozen(kw_only=True)
class ModelFolder:
    """One model on disk.

    Attributes:
        path: its folder.
        name: name of that folder.
        variant: one of `VARIANTS`, or "" when neither config nor name tell.
        layout: ACE-Step's own files, or those of a saved diffusers pipeline.
        dims: its dimensions.
        dtype: type of most of its weights ("bf16", "fp32"), "" without weights.
        parameters: number of weights found.
        bytes: size of the weight files found.
        missing: what a complete checkpoint would have beside it, in words.
        root: folder that holds its VAE and text encoder.
    """

    path: Path
    name: str
    variant: str
    layout: Literal["original", "diffusers"]
    dims: ModelDims
    dtype: str
    parameters: int
    bytes: int
    missing: tuple[str, ...]
    root: Path

    @property
    def vae(self) -> Path:
        """Folder of the VAE."""
        return self.root / "vae"

    @property
    def text_encoder(self) -> Path:
        """Folder of the text encoder."""
        return self.root / (TEXT_ENCODER if self.layout == "original" else "text_encoder")

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.text_encoder if self.layout == "original" else self.root / "tokenizer"

    @property
    def silence(self) -> Path | None:
        """File of the silence latent in the original layout, beside the model or in the root."""
        places = (self.path / SILENCE, self.root / SILENCE)
        return next((file for file in places if file.is_file()), None)


def read_model(path: Path, root: Path) -> ModelFolder | None:
    """Read what is known of a model without loading it; None when the folder holds something else.

    Raises:
        CheckpointError: it is a model, but its config or the headers of its weights are unusable.
    """
    if (path / "model_index.json").is_file():
        if not _is_ours(_read_json(path / "model_index.json")):
            return None
        layout: Literal["original", "diffusers"] = "diffusers"
        dims, root = _diffusers_dims(path), path
    elif (path / "config.json").is_file():
        config = _read_json(path / "config.json")
        if not _is_ours(config):
            return None
        layout, dims = "original", ModelDims.from_config(config, str(path / "config.json"))
    else:
        return None
    files = model_files(path, layout)
    there = [file for file in files if file.is_file()]
    headers = [info for file in there for info in read_header(file).values() if info.key != SILENCE_KEY]
    folder = ModelFolder(
        path=path,
        name=path.absolute().name,
        variant=_variant(dims, path.absolute().name),
        layout=layout,
        dims=dims,
        dtype=_main_dtype(headers),
        parameters=sum(info.count for info in headers),
        bytes=sum(file.stat().st_size for file in there),
        missing=(),
        root=root,
    )
    return attrs.evolve(folder, missing=tuple(_missing(folder, files)))


def model_files(path: Path, layout: str) -> tuple[Path, ...]:
    """Return the weight files of a model folder: those found and those that an index names."""
    if layout == "original":
        return weight_files(path, "model")
    return tuple(file for part in PREFIXES for file in weight_files(path / part, "diffusion_pytorch_model"))


def part_tensors(folder: ModelFolder, part: str) -> dict[str, TensorInfo]:
    """Return the tensors of one diffusers component by their diffusers names, whatever the layout.

    Tensors of an original checkpoint that belong to no component are among them, under names that no module has.

    Raises:
        CheckpointError: there are no weights, or a file is missing or damaged.
    """
    original = folder.layout == "original"
    place = folder.path if original else folder.path / part
    files = weight_files(place, "model" if original else "diffusion_pytorch_model")
    if not files:
        raise CheckpointError(f"{place} has no safetensors weights; download the model again")
    found = {}
    for file in files:
        for key, info in read_header(file).items():
            owner, name = _place(key) if original else (part, key)
            if owner in (part, ""):
                found[name] = info
    return found


def _place(key: str) -> tuple[str, str]:
    try:
        return to_diffusers(key)
    except KeyError:
        return "", f"({key})"


def _is_ours(config: Mapping[str, Any]) -> bool:
    """Tell ACE-Step models by any of the fields that name their class."""
    if config.get("model_type") == "acestep" or config.get("_class_name") == "AceStepPipeline":
        return True
    return "AceStepConditionGenerationModel" in json.dumps([config.get("architectures"), config.get("auto_map")])


def _diffusers_dims(path: Path) -> ModelDims:
    decoder = _read_json(path / "transformer" / "config.json")
    encoder = _read_json(path / "condition_encoder" / "config.json")
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    config = encoder | decoder | {f"encoder_{name}": encoder.get(name) for name in sizes}
    return ModelDims.from_config(config, f"{path} (transformer, condition_encoder)")


def _variant(dims: ModelDims, name: str) -> str:
    """Return the variant that the config tells, or else the one whole word of the folder's name."""
    for text in ("turbo" if dims.is_turbo else "", dims.model_version, name):
        kinds = set(re.split(r"[\W_]+", text.lower())).intersection(_KINDS)
        if len(kinds) == 1:
            return f"xl-{kinds.pop()}" if dims.xl else kinds.pop()
    return ""


def _main_dtype(headers: Iterable[TensorInfo]) -> str:
    counts: Counter[str] = Counter()
    for info in headers:
        counts[info.dtype] += info.count
    return "".join(_DTYPES.get(dtype, dtype.lower()) for dtype, _ in counts.most_common(1))


def _missing(folder: ModelFolder, files: Iterable[Path]) -> Iterable[str]:
    absent = [str(file.relative_to(folder.path)) for file in files if not file.is_file()]
    if absent:
        yield f"weights ({', '.join(absent)})"
    if folder.layout == "original":
        if not files:
            yield "weights (model.safetensors)"
        if not folder.silence:
            yield SILENCE
    else:
        for part in ("transformer", "condition_encoder"):
            if not weight_files(folder.path / part, "diffusion_pytorch_model"):
                yield f"weights ({part})"
    if not weight_files(folder.vae, "diffusion_pytorch_model"):
        yield f"vae ({folder.vae.name})"
    if not weight_files(folder.text_encoder, "model"):
        yield f"text encoder ({folder.text_encoder.name})"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return found
