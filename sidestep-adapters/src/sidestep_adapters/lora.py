"""LoRA through peft: `scale * B @ A` beside each chosen projection of the frozen decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peft
import torch
import torch.nn.functional as F
from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.updates import LowRank
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import LoraConfig
from sidestep_adapters.low_rank import random_down
from sidestep_adapters.peft_layers import NAME, peft_layer
from sidestep_adapters.pissa import principal_factors
from sidestep_adapters.projections import ProjectionAdapter
from sidestep_adapters.sizes import rank_and_alpha


class LoraAdapter(ProjectionAdapter[LoraConfig]):
    """LoRA, with rsLoRA, LoRA+ and PiSSA."""

    def wrap(self, linear: nn.Linear, target: Target) -> nn.Module:
        """Put A and B beside the projection: B is zero, or both hold its largest components (PiSSA)."""
        rank, alpha = rank_and_alpha(self.config, target)
        down, up = random_down(rank, linear.in_features), torch.zeros(linear.out_features, rank)
        layer = peft_layer(
            linear,
            peft.LoraConfig,
            r=rank,
            lora_alpha=alpha,
            lora_dropout=self.config.dropout,
            use_rslora=self.config.use_rslora,
            init_lora_weights=False,
        )
        if self.config.init_weights == "pissa":
            down, up = principal_factors(linear.weight.float(), down, up, layer.scaling[NAME])
            layer.lora_A[NAME] = Started(layer.lora_A[NAME].weight, down, dim=0)
            layer.lora_B[NAME] = Started(layer.lora_B[NAME].weight, -up, dim=1)
        layer.lora_A[NAME].weight.data.copy_(down)
        layer.lora_B[NAME].weight.data.copy_(up)
        return layer  # type: ignore[no-any-return]

    def tensors(self, layer: Any) -> Mapping[str, Tensor]:
        """Return A [rank, in] and B [out, rank], with PiSSA also what is taken off."""
        halves = {"lora_A": layer.lora_A[NAME], "lora_B": layer.lora_B[NAME]}
        return {
            f"{half}.{name}": t for half, part in halves.items() for name, t in part.state_dict(keep_vars=True).items()
        }

    def rate(self, name: str) -> float:
        """Return LoRA+'s ratio for B."""
        return self.config.loraplus_lr_ratio if name == "lora_B.weight" else 1.0

    def delta(self, layer: Any) -> Tensor:
        """Return `scale * B @ A`, less its start with PiSSA."""
        return _low_rank("", layer).delta()

    def files(self, layers: Mapping[str, Any], metadata: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return a PEFT folder, scale folded into B."""
        return peft_files([_low_rank(name, layer) for name, layer in layers.items()], metadata)


class Started(nn.Module):
    """One of two factors that do not start at zero, together with its start, so that the update does.

    The frozen weight stays what it was: instead of taking `B0 @ A0` off it, as PiSSA is usually written, the update is
    `[B, -B0] @ [A; A0]`. In bf16 the difference could not be kept, and files are relative to the original weight.
    """

    start: Tensor

    def __init__(self, weight: nn.Parameter, start: Tensor, *, dim: int) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("start", start.clone())
        self._dim = dim

    def whole(self) -> Tensor:
        """Return the factor with its start beside it, twice the rank."""
        return torch.cat([self.weight, self.start], dim=self._dim)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by both."""
        return F.linear(x, self.whole())


def _low_rank(name: str, layer: Any) -> LowRank:
    down, up = (
        (factor.whole() if isinstance(factor, Started) else factor.weight).detach()
        for factor in (layer.lora_A[NAME], layer.lora_B[NAME])
    )
    return LowRank(name=name, down=down, up=up, scale=layer.scaling[NAME])
