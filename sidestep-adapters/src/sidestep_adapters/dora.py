"""DoRA: LoRA with rows of trained length. PEFT's weights and files, its forward pass in closed form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from sidestep_core.adapter_files import PREFIX, LowRank, layer_order
from sidestep_core.adapter_writing import DIFFUSERS_PREFIX, diffusers_metadata, lora_settings
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import DoraConfig
from sidestep_adapters.low_rank import random_down, scale_of
from sidestep_adapters.peft_layers import peft_folder
from sidestep_adapters.projections import Layer, ProjectionAdapter
from sidestep_adapters.sizes import rank_and_alpha

_MAGNITUDE = "lora_magnitude_vector"


class DoraAdapter(ProjectionAdapter[DoraConfig]):
    """DoRA, with rsLoRA and LoRA+."""

    def wrap(self, linear: nn.Linear, target: Target) -> nn.Module:
        """Put A, B and the magnitudes beside the projection: B is zero, each magnitude the length of its row."""
        rank, alpha = rank_and_alpha(self.config, target)
        down = random_down(rank, linear.in_features)
        return DoraLinear(linear, down, scale=scale_of(self.config, rank, alpha), dropout=self.config.dropout)

    def tensors(self, layer: Any) -> Mapping[str, Tensor]:
        """Return A [rank, in], B [out, rank] and the magnitudes [out]."""
        return {
            "lora_A.weight": layer.down,
            "lora_B.weight": layer.up,
            f"{_MAGNITUDE}.weight": layer.magnitude,
        }

    def rate(self, name: str) -> float:
        """Return LoRA+'s ratio for B."""
        return self.config.loraplus_lr_ratio if name == "lora_B.weight" else 1.0

    def delta(self, layer: Any) -> Tensor:
        """Return the difference that rescaling the rows of `W + scale * B @ A` makes."""
        weight = self.frozen(layer)
        changed = weight + layer.scale * layer.up @ layer.down
        rescaled: Tensor = changed * (layer.magnitude / changed.norm(dim=1))[:, None]
        return rescaled - weight

    def files(self, layers: Mapping[str, Any], metadata: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return a PEFT folder, scale folded into B, magnitudes as they are."""
        names = sorted(layers, key=layer_order)
        modules = [
            LowRank(name=name, down=layers[name].down, up=layers[name].up, scale=layers[name].scale).folded()
            for name in names
        ]
        tensors = {}
        for module in modules:
            tensors[f"{PREFIX}{module.name}.lora_A.weight"] = module.down
            tensors[f"{PREFIX}{module.name}.lora_B.weight"] = module.up
            tensors[f"{PREFIX}{module.name}.{_MAGNITUDE}"] = layers[module.name].magnitude
        settings = {"peft_type": "LORA", "lora_dropout": 0.0, **lora_settings(modules, names), "use_dora": True}
        return peft_folder(settings, tensors, {**metadata, **_metadata(modules)})


class DoraLinear(Layer):
    """`magnitude / |W + scale B A| * (W + scale B A) x`, the length taken row by row and as a constant.

    Dropout acts on what A sees. PEFT drops from what W sees as well, in training only, which needs a second product
    with W.
    """

    squares: Tensor

    def __init__(self, base_layer: nn.Linear, down: Tensor, *, scale: float, dropout: float) -> None:
        super().__init__(base_layer)
        squares = base_layer.weight.float().square().sum(dim=1)
        self.register_buffer("squares", squares, persistent=False)
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(base_layer.out_features, len(down)))
        self.magnitude = nn.Parameter(squares.sqrt())
        self.scale = scale
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted projection of `x` [..., in]."""
        base = self.product(x)
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.down.dtype)
        low = F.linear(F.linear(self.dropout(x), self.down), self.up)
        changed = torch.add(base, low, alpha=self.scale)
        return self.biased((changed * (self.magnitude / self._norms())).to(base.dtype))

    @torch.no_grad()
    def _norms(self) -> Tensor:
        """Return the length [out] of each row of `W + scale B A`, without making that matrix."""
        weight, down, up = self.weight, self.down, self.up
        with torch.autocast(weight.device.type, enabled=False):
            mixed = (weight @ down.to(weight.dtype).T).float()  # [out, rank]
            # W (BA)^T and BA (BA)^T have their diagonals in common products with B
            mixed = torch.addmm(mixed, up, down @ down.T, beta=2 * self.scale, alpha=self.scale**2)
            squares: Tensor = self.squares + torch.linalg.vecdot(mixed, up)
        return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()


def _metadata(modules: list[LowRank]) -> dict[str, str]:
    metadata = diffusers_metadata(modules)
    settings = json.loads(metadata["lora_adapter_metadata"]) | {f"{DIFFUSERS_PREFIX}use_dora": True}
    return {**metadata, "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
