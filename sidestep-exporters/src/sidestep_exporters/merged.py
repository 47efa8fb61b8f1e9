"""`merged`: the whole model with the adapter added to its weights, a few rows at a time, in the layout it has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from sidestep_core.errors import ExportError
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.model.folder import model_files
from sidestep_core.model.headers import TensorInfo, read_header, weight_files
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import Planned, converted, copied, planned_rows

from sidestep_exporters.configs import EVERYTHING, MergedConfig
from sidestep_exporters.frame import Content, Made, Tensors, export
from sidestep_exporters.layouts import header
from sidestep_exporters.merged_proof import READER, merged_rows, prove_merged, row_blocks
from sidestep_exporters.source import Source

_GB = 1_000_000_000


class MergedExporter:
    """Writes a model folder like the one that the adapter was trained on."""

    name, accepts, instead, beside = "merged", EVERYTHING, "", False

    def __init__(self, config: MergedConfig, context: BuildContext) -> None:
        self._shard_size = int(config.shard_size * _GB)

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-merged`, or the folder that was asked for.

        Raises:
            AdapterError: the adapter's files are damaged, or it does not fit the model.
            ExportError: no model is known, or there is one where this is to be written.
            ProofError: weights do not read back as they should; no file is left.
        """
        if request.output is not None and any(request.output.rglob("*.safetensors")):
            raise ExportError(f"{request.output} holds a model already; give another --output")
        return export(self, request)

    def file(self, source: Source, adapter: str) -> str:
        """Return that a folder is written."""
        return ""

    def make(self, source: Source, file: str) -> Made:
        """Return the weights, and everything else of the model's folder as it is."""
        base = source.model(self.name)
        model = base.model
        part = "" if model.layout == "original" else "transformer"
        stem = "diffusion_pytorch_model" if part else "model"
        weights = weight_files(model.path / part, stem)
        tensors = {key: info for weight in weights for key, info in read_header(weight).items()}
        adapted = {info.key: name for name, info in base.tensors.items() if name in source.parts}
        plans = {key: _plan(source, info, adapted.get(key)) for key, info in tensors.items()}
        metadata = {"format": "pt", **header(source, self.name, map(source.update, source.parts))}
        files: dict[str, Content] = {}
        for name, content in _shards(plans, stem, self._shard_size, metadata):
            files[str(Path(part) / name)] = content
        own = {*weights, *model_files(model.path, model.layout)} if not part else set(weights)
        for path in _others(model.path, own):
            files[str(path.relative_to(model.path))] = _other(path, source.dtype, model.path / part)
        return Made(files=files, prove=lambda folder: prove_merged(source, folder), reader=READER)


def _plan(source: Source, info: TensorInfo, name: str | None) -> Planned:
    """Return how a tensor is written: with the update of a module, or as it is."""
    if name is None:
        return copied(info) if source.dtype is None else converted(info, source.dtype)

    def rows() -> Iterator[torch.Tensor]:
        update = source.update(name)
        for start, stop in row_blocks(info.shape, update.row_step):
            yield merged_rows(source, update, start, stop)

    return planned_rows(info, source.dtype, rows)


def _shards(
    plans: Mapping[str, Planned], stem: str, limit: int, metadata: Mapping[str, str]
) -> Iterator[tuple[str, Content]]:
    """Yield the weight files by name, and the index that goes with several."""
    shards: list[dict[str, Planned]] = [{}]
    room = limit
    for key, plan in plans.items():
        if shards[-1] and plan.bytes > room:
            shards.append({})
            room = limit
        shards[-1][key] = plan
        room -= plan.bytes
    if len(shards) == 1:
        yield f"{stem}.safetensors", Tensors(tensors=shards[0], metadata=metadata)
        return
    places: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        name = f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors"
        places |= dict.fromkeys(shard, name)
        yield name, Tensors(tensors=shard, metadata=metadata)
    total = sum(plan.bytes for plan in plans.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    yield f"{stem}.safetensors.index.json", (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def _others(folder: Path, weights: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of a model's folder that are neither weights nor about how they are divided."""
    skipped = {*weights, *(file.parent / "model.safetensors.index.json" for file in weights)}
    skipped |= {file.parent / "diffusion_pytorch_model.safetensors.index.json" for file in weights}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path not in skipped and not hidden:
            yield path


def _other(path: Path, dtype: torch.dtype | None, weights: Path) -> Content:
    """Return a file as it is; the config of converted weights names their new type."""
    if dtype is None or path != weights / "config.json":
        return path
    config = json.loads(path.read_bytes())
    named = {key: str(dtype).removeprefix("torch.") for key in ("dtype", "torch_dtype") if key in config}
    return (json.dumps({**config, **named}, indent=2) + "\n").encode()
