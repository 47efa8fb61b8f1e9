"""LoHA with LyCORIS's weights: the update is the element-wise product of two low-rank products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lycoris.modules.loha import LohaModule
from sidestep_core.formats.keys import lycoris_name
from sidestep_core.model.quantize import QuantizedLinear
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import LohaConfig
from sidestep_adapters.hadamard import hadamard_linear
from sidestep_adapters.lycoris_files import lycoris_file
from sidestep_adapters.projections import Layer, ProjectionAdapter
from sidestep_adapters.sizes import rank_and_alpha


class LohaAdapter(ProjectionAdapter[LohaConfig]):
    """LoHA."""

    def wrap(self, linear: nn.Linear, target: Target) -> nn.Module:
        """Put LyCORIS's four matrices beside the projection; the update starts at zero."""
        rank, alpha = rank_and_alpha(self.config, target)
        update = LohaModule(
            lycoris_name(target.name),
            linear,
            lora_dim=rank,
            alpha=alpha,
            use_scalar=self.config.use_scalar,
            rs_lora=self.config.rs_lora,
            bypass_mode=False,
        )
        return LohaLinear(linear, update)

    def tensors(self, layer: Any) -> Mapping[str, Tensor]:
        """Return LyCORIS's parameters."""
        return dict(layer.update.named_parameters())

    def delta(self, layer: Any) -> Tensor:
        """Return the product of the products."""
        update = layer.update
        difference: Tensor = update.get_weight(update.shape) * update.scalar
        return difference

    def files(self, layers: Mapping[str, Any], metadata: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return LyCORIS's file."""
        modules = {name: layer.update.custom_state_dict() for name, layer in layers.items()}
        return lycoris_file("loha", self.config, modules, metadata)


class LohaLinear(Layer):
    """`W x + scale * ((w1_a @ w1_b) * (w2_a @ w2_b)) x`."""

    def __init__(self, base_layer: nn.Linear, update: LohaModule) -> None:
        super().__init__(base_layer)
        self.update = update

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted projection of `x` [..., in]."""
        update = self.update
        first = update.hada_w1_a * (update.scale * update.scalar)
        factors = (first, update.hada_w1_b, update.hada_w2_a, update.hada_w2_b)
        if isinstance(self.base_layer, QuantizedLinear):
            return self.biased(self.product(x) + hadamard_linear(x, None, *factors))
        return self.biased(hadamard_linear(x, self.weight, *factors))
