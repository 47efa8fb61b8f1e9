"""DoRA: LoRA with rows of trained length. PEFT's weights and files, its forward pass in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from sidestep_core.formats.peft_files import MAGNITUDE, peft_files
from sidestep_core.formats.updates import LowRank
from sidestep_core.formats.weight_updates import Decomposed
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import DoraConfig
from sidestep_adapters.low_rank import random_down, scale_of
from sidestep_adapters.projections import Layer, ProjectionAdapter
from sidestep_adapters.sizes import rank_and_alpha


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
            f"{MAGNITUDE}.weight": layer.magnitude,
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
        return peft_files([_update(name, layer) for name, layer in layers.items()], metadata)


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


def _update(name: str, layer: Any) -> Decomposed:
    inner = LowRank(name=name, down=layer.down, up=layer.up, scale=layer.scale)
    return Decomposed(name=name, inner=inner, magnitude=layer.magnitude)
