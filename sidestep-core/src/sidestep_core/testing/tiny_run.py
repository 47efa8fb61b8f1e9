"""What tests of training need: a tensor folder of noise, a small adapter and a request for a short run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sidestep_core.analysis.rank_map import dataset_hash
from sidestep_core.analysis.result import FILE_NAME, Analysis, Module, RunSongs, write_map
from sidestep_core.builtins import plugin as builtins
from sidestep_core.configs import (
    DataConfig,
    KeepConfig,
    MemoryConfig,
    ModelConfig,
    PreviewConfig,
    RunConfig,
    TargetsConfig,
    TrainConfig,
)
from sidestep_core.errors import AdapterError
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import ModelFolder, identity, resolve_model
from sidestep_core.model.names import module_path
from sidestep_core.options import config, option
from sidestep_core.plan import TrainPlan, make_plan
from sidestep_core.requests import Chosen, Components, TrainRequest
from sidestep_core.specs import AdapterType, BuildContext, Kept
from sidestep_core.store.index import TensorStore
from sidestep_core.store.noise import write_noise
from sidestep_core.targets import Target

__all__ = [
    "SMALL",
    "SmallAdapter",
    "SmallConfig",
    "tiny_components",
    "tiny_plan",
    "tiny_request",
    "write_noise",
]


@config
class SmallConfig:
    """Settings of the small adapter."""

    rank: int = option(default=4, at_least=1, help="Width of the two matrices.")
    dropout: float = option(default=0.1, at_least=0, below=1, help="Share of inputs set to zero in training.")


class SmallAdapter:
    """A low-rank update without any library, for tests of the loop."""

    def __init__(self, config: SmallConfig, context: BuildContext) -> None:
        """Take rank and dropout."""
        self._config = config
        self._modules: dict[str, _LowRank] = {}

    def attach(self, decoder: nn.Module, targets: Sequence[Target]) -> None:
        """Put the update on the targets."""
        decoder.requires_grad_(False)
        for target in targets:
            path, _, leaf = f"transformer.{module_path(target.name)}".rpartition(".")
            parent: Any = decoder.get_submodule(path)
            module = _LowRank(parent.get_submodule(leaf), target.rank or self._config.rank, self._config.dropout)
            parent.register_module(leaf, module)
            self._modules[target.name] = module

    def parameters(self) -> Sequence[tuple[str, nn.Parameter]]:
        """Return down and up of each target."""
        return [
            (f"{name}.{part}", getattr(module, part))
            for name, module in self._modules.items()
            for part in ("down", "up")
        ]

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return one group."""
        return [{"params": [parameter for _, parameter in self.parameters()], "lr": learning_rate}]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights."""
        return {name: parameter.detach() for name, parameter in self.parameters()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the weights."""
        if wrong := state.keys() ^ dict(self.parameters()).keys():
            raise AdapterError(f"keys that do not fit: {sorted(wrong)}")
        with torch.no_grad():
            for name, parameter in self.parameters():
                parameter.copy_(state[name])

    def save(self, folder: Path, *, metadata: Mapping[str, str]) -> list[Path]:
        """Write weights and metadata."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "small.safetensors"
        save_file({name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}, path)
        text = folder / "metadata.txt"
        text.write_text("\n".join(f"{key}: {metadata[key]}" for key in sorted(metadata)), encoding="utf-8")
        return [path, text]

    def deltas(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weight differences."""
        return ((name, (module.up @ module.down).detach()) for name, module in self._modules.items())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let the modules pass on what the projections give."""
        for module in self._modules.values():
            module.enabled = False
        try:
            yield
        finally:
            for module in self._modules.values():
                module.enabled = True


class _LowRank(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.enabled = True
        self.dropout = nn.Dropout(dropout)
        device = base.weight.device
        self.down = nn.Parameter(torch.randn(rank, base.in_features, device=device) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        if not self.enabled:
            return out
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        return out + nn.functional.linear(nn.functional.linear(self.dropout(x), down), up)


SMALL = AdapterType(
    name="small",
    summary="A low-rank update for tests",
    config=SmallConfig,
    target="sidestep_core.testing.tiny_run:SmallAdapter",
    count=lambda config, out, in_, rank: (rank or config.rank) * (out + in_),
    keeps=lambda config, out, in_, rank, mixed: Kept(
        input=not config.dropout,
        elements=(rank or config.rank) + in_ * (config.dropout > 0),
        masks=in_ * (config.dropout > 0),
        constant=mixed * (rank or config.rank) * (out + in_),
    ),
)


def write_ranks(store: TensorStore, model: ModelFolder, ranks: Mapping[str, int], **facts: Any) -> Path:
    """Write a rank map for a tensor folder beside it, as an analysis would that gave these ranks; return the file."""
    names = projection_shapes(model.dims)
    modules = [Module(name=n, score=1.0, deviation=0.0, effective_rank=1, rank=ranks.get(n, 0)) for n in names]
    analysis = Analysis(
        model=model.name,
        variant=model.variant,
        identity=identity(model),
        layers=model.dims.num_layers,
        timestep_mu=model.dims.timestep_mu,
        timestep_sigma=model.dims.timestep_sigma,
        dataset_hash=dataset_hash([store]),
        focus="balanced",
        limits=(0.0, 1.0),
        songs=len(store.songs),
        batches=1,
        runs=(RunSongs(songs=(store.songs[0].name,), batches=1),),
        **{
            "base": 64,
            "rank_min": 16,
            "rank_max": 128,
            "budget": None,
            "adapter_type": "small",
            "trainable": None,
            "error": 0.0,
            "modules": tuple(modules),
            **facts,
        },
    )
    write_map(analysis, store.path / FILE_NAME)
    return store.path / FILE_NAME


def tiny_request(run: Path, /, **tables: Mapping[str, Any]) -> TrainRequest:
    """Return a request for a short run on the CPU; `train={...}` and the like change its tables."""
    train = {"epochs": 3, "accumulation": 2, "warmup_steps": 2, "learning_rate": 1e-2}
    return TrainRequest(
        model=ModelConfig(**{"device": "cpu", **tables.get("model", {})}),
        data=DataConfig(**tables.get("data", {})),
        train=TrainConfig(**{**train, **tables.get("train", {})}),
        targets=TargetsConfig(**tables.get("targets", {})),
        keep=KeepConfig(**tables.get("keep", {})),
        memory=MemoryConfig(**tables.get("memory", {})),
        run=RunConfig(**{"output_dir": run, "run_name": "tiny", "log_every": 1, **tables.get("run", {})}),
        preview=PreviewConfig(**{"seconds": 1.0, "steps": 2, **tables.get("preview", {})}),
    )


def tiny_components(
    *,
    timesteps: str = "continuous",
    controllers: Sequence[str] = ("cosine",),
    optimizer: str = "adamw",
    **configs: Any,
) -> Components:
    """Return the small adapter with the core's own components; `small=SmallConfig()` and the like set them."""
    by_name = {
        spec.name: spec
        for hook in ("timestep_samplers", "lr_controllers", "optimizers")
        for spec in getattr(builtins, f"sidestep_{hook}")()
    }

    def chosen(name: str) -> Chosen[Any]:
        return Chosen(spec=by_name[name], config=configs.get(name))

    return Components(
        adapter=Chosen(spec=SMALL, config=configs.get("small")),
        timesteps=chosen(timesteps),
        controllers=tuple(chosen(name) for name in controllers),
        optimizer=chosen(optimizer),
        observers=(),
    )


def tiny_plan(
    checkpoint: Path,
    store: TensorStore | Sequence[TensorStore],
    run: Path,
    /,
    components: Components | None = None,
    **tables: Mapping[str, Any],
) -> TrainPlan:
    """Return the plan of a short run, of the small adapter unless other components are given."""
    stores = (store,) if isinstance(store, TensorStore) else store
    model = resolve_model(checkpoint, "base")
    return make_plan(tiny_request(run, **tables), components or tiny_components(), model, stores)
